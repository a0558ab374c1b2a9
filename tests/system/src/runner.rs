//! `./x run` as a user calls it, without building anything.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use oxen_harness::images;

use crate::turn;

/// How a run ended.
pub struct Run {
    pub status: i32,
    /// The output of the command in dom0.
    pub output: String,
    /// All that the machine printed.
    pub console: String,
}

/// Runs a command in dom0 of a machine with the given options of `./x run`.
pub fn run(options: &[&str], command: &str, seconds: u32) -> Result<Run> {
    let program = images::target_dir().join("debug/oxen-boot");
    // Others may run at the same time.
    static RUNS: AtomicU32 = AtomicU32::new(1);
    let name = format!("run-command-{}", RUNS.fetch_add(1, Ordering::Relaxed));
    let _turn = turn::beside_others();
    let done = Command::new(&program)
        .args(["run", "--no-build", "--timeout", &seconds.to_string()])
        .args(["--log", &name])
        .args(options)
        .args(["--", command])
        .env("OXEN_ROOT", images::root())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}: ./x builds it", program.display()))?;
    let log = images::test_log(&name);
    let console = std::fs::read(&log).with_context(|| format!("no {}", log.display()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Run {
        status: done.status.code().unwrap_or(-1),
        output: text(&done.stdout) + &text(&done.stderr),
        console: text(&console),
    })
}
