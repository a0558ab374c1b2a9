//! `./x bench`: seconds from power-on to the hypervisor's first line, dom0's first line and its prompt.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use oxen_harness::Vm;

use crate::options::MachineOptions;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    machine: MachineOptions,
    /// How many starts
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Start what was built before
    #[arg(long)]
    no_build: bool,
}

const LIMIT: Duration = Duration::from_secs(300);

/// What is waited for, in this order.
const STEPS: [(&str, &str); 3] = [
    ("first line", r"\S+.*\n"),
    ("Linux", r"Linux version"),
    ("dom0's prompt", r"DOM0-INIT [^\n]*\n"),
];

pub(crate) fn bench(arguments: &Arguments) -> Result<()> {
    if !arguments.no_build {
        arguments.machine.build(false)?;
    }
    for round in 1..=arguments.rounds {
        let machine = arguments.machine.machine(None, "bench")?;
        let began = Instant::now();
        let mut vm = Vm::start(&machine, "bench", LIMIT)?;
        let mut line = format!("start {round}:");
        for (name, pattern) in STEPS {
            vm.expect(pattern, LIMIT)?;
            line += &format!(" {name} {:.1} s", began.elapsed().as_secs_f64());
        }
        println!("{line}");
    }
    Ok(())
}
