//! `./x run`: a machine on the terminal, or one command in dom0.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use oxen_harness::{Serial, Vm, images};

use crate::compile::write_whole;
use crate::exec::run as run_process;
use crate::initramfs;
use crate::options::MachineOptions;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    machine: MachineOptions,
    /// Wait for gdb on this port (see also ./x gdb)
    #[arg(long, num_args = 0..=1, default_missing_value = "1234")]
    gdb: Option<u16>,
    /// Start what was built before
    #[arg(long)]
    no_build: bool,
    /// With a command: the longest it may take, in seconds, from the machine's start
    #[arg(long, default_value_t = 300)]
    timeout: u64,
    /// With a command: the console's log is target/test-logs/NAME.log
    #[arg(long, value_name = "NAME", default_value = "run-command")]
    log: String,
    /// Run this in dom0, print its output, power off, and exit with its status
    #[arg(last = true)]
    command: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if !arguments.no_build {
        // A command's output is the only thing on stdout.
        arguments.machine.build(!arguments.command.is_empty())?;
    }
    if arguments.command.is_empty() {
        interactive(arguments)
    } else {
        one_command(arguments)
    }
}

fn interactive(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.machine.bochs {
        return arguments.machine.bochs(None, "run-bochs")?.interactive();
    }
    let mut machine = arguments.machine.machine(None, "run")?;
    machine.serial = Serial::Terminal;
    machine.no_reboot = false;
    machine.gdb = arguments.gdb;
    println!(
        "x: Ctrl-] x ends the machine (so does poweroff); three Ctrl-A switch to the hypervisor's keys and back"
    );
    run_process(&mut machine.command())?;
    Ok(ExitCode::SUCCESS)
}

fn one_command(arguments: &Arguments) -> Result<ExitCode> {
    let name = format!("command-{}", std::process::id());
    let initrd = images::target_dir()
        .join("run")
        .join(format!("{name}.cpio"));
    let mut archive =
        std::fs::read(arguments.machine.initrd()?).context("cannot read dom0's initramfs")?;
    // The kernel unpacks archives that follow one another.
    archive.extend(initramfs::with_command(&arguments.command.join(" "))?);
    write_whole(&initrd, &archive)?;
    let result = if arguments.machine.bochs {
        let machine = arguments.machine.bochs(Some(&initrd), &name);
        machine.and_then(|mut machine| {
            machine.limit = Some(Duration::from_secs(arguments.timeout));
            machine.one_command(&arguments.log)
        })
    } else {
        in_qemu(arguments, &initrd, &name)
    };
    let _ = std::fs::remove_file(&initrd);
    let _ = std::fs::remove_file(initrd.with_extension("iso"));
    result
}

fn in_qemu(arguments: &Arguments, initrd: &Path, name: &str) -> Result<ExitCode> {
    arguments
        .machine
        .machine(Some(initrd), name)
        .and_then(|mut machine| {
            machine.gdb = arguments.gdb;
            let mut vm = Vm::start(
                &machine,
                &arguments.log,
                Duration::from_secs(arguments.timeout),
            )?;
            follow(&mut vm, Duration::from_secs(arguments.timeout))
        })
}

/// Prints the command's output as it comes, until its status.
fn follow(vm: &mut Vm, limit: Duration) -> Result<ExitCode> {
    vm.expect("<oxen-begin>\n", limit)?;
    // From here on a panic on the console may be what the command is about.
    loop {
        let seen = vm.expect(r"oxen\| .*\n|<oxen-status \d*>\n", limit)?;
        let line = seen
            .trim_end_matches('\n')
            .rsplit('\n')
            .next()
            .unwrap_or_default();
        if let Some((_, output)) = line.split_once("oxen| ") {
            println!("{output}");
            continue;
        }
        let status = line
            .rsplit_once("<oxen-status ")
            .map(|(_, rest)| rest.trim_end_matches('>'));
        let status = status
            .and_then(|status| status.parse::<u8>().ok())
            .with_context(|| format!("no status in {line:?}"))?;
        vm.wait(Duration::from_secs(60))
            .context("dom0 did not power the machine off")?;
        return Ok(ExitCode::from(status));
    }
}
