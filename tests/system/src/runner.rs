//! `./x run` as a user calls it, without building anything.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use oxen_harness::images;

/// How a run ended.
pub struct Run {
    pub status: i32,
    /// What the command in dom0 printed.
    pub output: String,
    /// All that the machine printed.
    pub console: String,
}

/// Runs a command in dom0 of a machine with the given options of `./x run`.
pub fn run(options: &[&str], command: &str, seconds: u32) -> Result<Run> {
    let program = images::target_dir().join("debug/oxen-boot");
    let done = Command::new(&program)
        .args(["run", "--no-build", "--timeout", &seconds.to_string()])
        .args(options)
        .args(["--", command])
        .env("OXEN_ROOT", images::root())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}: ./x builds it", program.display()))?;
    let log = images::target_dir().join("test-logs/run-command.log");
    let console = std::fs::read(&log).with_context(|| format!("no {}", log.display()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Run {
        status: done.status.code().unwrap_or(-1),
        output: text(&done.stdout) + &text(&done.stderr),
        console: text(&console),
    })
}
