//! `./x gdb`: the machine halted before its first instruction, and gdb attached to it.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use oxen_harness::Vm;

use crate::compile;
use crate::exec::{command, run};
use crate::options::MachineOptions;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    machine: MachineOptions,
    /// Port of QEMU's gdb server
    #[arg(long, default_value_t = 1234)]
    port: u16,
}

pub(crate) fn gdb(arguments: &Arguments) -> Result<()> {
    crate::image(false)?;
    let mut machine = arguments.machine.machine(None, "gdb")?;
    machine.gdb = Some(arguments.port);
    let vm = Vm::start(&machine, "gdb", Duration::from_secs(7 * 24 * 3600))?;
    println!("x: the console goes to {}", vm.console().log().display());
    println!("x: before the image is loaded, only hardware breakpoints last: hbreak oxen_main");
    let mut gdb = command("gdb", ["-q"]);
    gdb.arg(compile::hypervisor_with_symbols());
    gdb.args([
        "-ex",
        "set confirm off",
        "-ex",
        &format!("target remote 127.0.0.1:{}", arguments.port),
    ]);
    run(&mut gdb)
}
