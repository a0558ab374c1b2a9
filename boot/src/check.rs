//! `./x test`: what CI runs. All stages run even if one fails, except those that need its result.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use oxen_harness::images;

use crate::compile::cargo;
use crate::embedded::{self, Vendor};
use crate::exec::run;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Leave out the tests in virtual machines
    #[arg(long)]
    host_only: bool,
    /// Only the tests in virtual machines
    #[arg(long, conflicts_with = "host_only")]
    system_only: bool,
    /// Only this: put back each fault that a review found, and see its test fail (half an hour).
    /// `-- ID ...` takes some of them; the patches are in tests/findings
    #[arg(long, conflicts_with_all = ["host_only", "system_only", "bochs", "write_table"])]
    findings: bool,
    /// Only this: print the counts of the tree (files, functions, `unsafe`, tests, comments), which
    /// docs/house.md keeps
    #[arg(long, conflicts_with_all = ["host_only", "system_only", "bochs", "write_table", "findings"])]
    house: bool,
    /// Also the long runs on emulated Intel and AMD machines, in Bochs (an hour)
    #[arg(long, conflicts_with = "host_only")]
    bochs: bool,
    /// Afterwards, put the table of tests by back end into docs/
    #[arg(long, conflicts_with = "host_only")]
    write_table: bool,
    /// Arguments for the test programs in virtual machines, such as a part of a test's name
    #[arg(last = true)]
    filter: Vec<String>,
}

#[derive(Args)]
pub(crate) struct SoakArguments {
    /// Only those with this in their name, such as attacks; `fuzz` runs the fuzzers of all parts
    name: Option<String>,
    /// Where random tests begin, to repeat a failure
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// How long the fuzzers go on, all parts together (60, or 5 with --plant)
    #[arg(long, value_name = "NUMBER")]
    minutes: Option<u64>,
    /// Put the fault of a finding back, such as C1; the fuzzer of its part must find it
    #[arg(long, value_name = "ID")]
    plant: Option<String>,
}

/// Crates with code for the bare target that the host's lints do not see.
const BARE_CRATES: [&str; 3] = ["oxen", "oxen-stage", "test-guests"];

pub(crate) fn test(arguments: &Arguments) -> Result<()> {
    if arguments.findings {
        return crate::findings::check(&arguments.filter);
    }
    if arguments.house {
        return crate::house::print();
    }
    let mut failed = Vec::new();
    if !arguments.system_only {
        stage("format", &mut failed, || {
            run(cargo().args(["fmt", "--all", "--check"]))
        });
        stage("lints", &mut failed, clippy);
        stage("host tests", &mut failed, || run(&mut host_tests()));
    }
    if !arguments.host_only && stage("image", &mut failed, || crate::image(false)) {
        stage("embedded images", &mut failed, embedded_images);
        if arguments.filter.is_empty() {
            stage("dom0's system on the bare machine", &mut failed, || {
                run(&mut dom0_system_tests())
            });
        }
        if arguments.filter.is_empty() {
            stage(
                "instruction counts",
                &mut failed,
                crate::bench::guard::check,
            );
        }
        stage("system tests", &mut failed, || {
            run(system_tests(machines()).args(&arguments.filter))
        });
        if arguments.bochs {
            stage("tests in Bochs", &mut failed, || {
                run(system_tests(machines()).args(["--ignored", "bochs_"]))
            });
        }
        if arguments.write_table {
            stage("table", &mut failed, write_table);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// The long tests, which are named `soak_*` and left out of `./x test`.
pub(crate) fn soak(arguments: &SoakArguments) -> Result<()> {
    let name = arguments.name.as_deref().unwrap_or_default();
    if name == "fuzz" {
        return crate::fuzz::fuzz(&crate::fuzz::Settings {
            minutes: arguments.minutes,
            seed: arguments.seed,
            plant: arguments.plant.as_deref(),
        });
    }
    if arguments.minutes.is_some() || arguments.plant.is_some() {
        bail!("--minutes and --plant belong to the fuzzers: ./x soak fuzz");
    }
    crate::image(false)?;
    if name.is_empty() || name.starts_with("io") {
        crate::tools::archive()?;
    }
    // One at a time: most of them measure, or take the host to its limits.
    let mut tests = system_tests(1);
    tests.args(["--ignored", "--nocapture", &format!("soak_{name}")]);
    if let Some(seed) = arguments.seed {
        tests.env("OXEN_SEED", seed.to_string());
    }
    run(&mut tests)
}

/// The embedded images, of which none may be larger than its limit.
fn embedded_images() -> Result<()> {
    for vendor in Vendor::ALL {
        println!("{}", embedded::build(vendor)?);
    }
    Ok(())
}

/// Lints of the host's crates, then of the hypervisor as it is built.
pub(crate) fn clippy() -> Result<()> {
    let deny = ["--", "-Dwarnings"];
    run(cargo()
        .args(["clippy", "-q", "--workspace", "--all-targets"])
        .args(deny))?;
    for package in BARE_CRATES {
        let bare = [
            "clippy",
            "-q",
            "--release",
            "--target",
            "x86_64-unknown-none",
            "-p",
            package,
        ];
        run(cargo().args(bare).args(deny))?;
    }
    Ok(())
}

/// No documentation has code that could run as a test: looking for it takes a minute.
fn host_tests() -> Command {
    let mut tests = cargo();
    tests.args(["test", "-q", "--workspace", "--exclude", "system-tests"]);
    tests.args(["--lib", "--bins", "--tests", "--examples"]);
    tests
}

/// Tells faults of the initramfs from the hypervisor's.
fn dom0_system_tests() -> Command {
    let mut tests = cargo();
    tests.args(["test", "-q", "-p", "oxen-harness", "--test", "dom0_system"]);
    tests.args(["--", "--ignored"]);
    tests.arg(format!("--test-threads={}", machines()));
    tests
}

/// Copies the table that the runs wrote into the documentation.
fn write_table() -> Result<()> {
    run(system_tests(1).args(["--ignored", "table_of_what_ran"]))?;
    let name = "tests-by-backend.md";
    let (from, to) = (images::target_dir(), images::root().join("docs"));
    std::fs::copy(from.join(name), to.join(name)).context("no run has written a table")?;
    Ok(())
}

/// How many machines run side by side. The emulator has one thread for all CPUs of a machine.
fn machines() -> usize {
    std::thread::available_parallelism().map_or(1, |cpus| cpus.get().min(2))
}

/// Up to where arguments of the test program follow.
pub(crate) fn system_tests(machines: usize) -> Command {
    let mut tests = cargo();
    let threads = format!("--test-threads={machines}");
    tests
        .args(["test", "-p", "system-tests", "--no-fail-fast"])
        .args(["--lib", "--test", "system", "--"])
        .arg(threads)
        // The console's tail tells more than where a test gave up.
        .env("RUST_BACKTRACE", "0");
    tests
}

/// Runs a stage; tells whether it succeeded.
fn stage(
    name: &'static str,
    failed: &mut Vec<&'static str>,
    work: impl FnOnce() -> Result<()>,
) -> bool {
    eprintln!("x: === {name}");
    let began = Instant::now();
    let result = work();
    if let Err(error) = &result {
        eprintln!("x: error: {error:#}");
        failed.push(name);
    }
    let word = if result.is_ok() { "done" } else { "FAILED" };
    eprintln!("x: === {name} {word} in {} s", began.elapsed().as_secs());
    result.is_ok()
}
