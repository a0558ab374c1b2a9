//! The task runner behind `./x`: builds, packs, runs and tests.

mod bench;
mod bochs;
mod check;
mod compile;
mod debian;
mod embedded;
mod exec;
mod findings;
mod fuzz;
mod gdb;
mod guest_image;
mod house;
mod initramfs;
mod iso;
mod options;
mod run;
mod sizes;
mod symbols;
mod tools;
mod unpacked;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use embedded::Vendor;

#[derive(Parser)]
#[command(
    name = "./x",
    bin_name = "./x",
    about = "Builds, runs and tests Oxen.",
    disable_version_flag = true
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Start the hypervisor and dom0 in QEMU: a prompt, or one command (`./x run -- 'xm list'`).
    Run(run::Arguments),
    /// Format check, lints, host tests, the image, and the tests in virtual machines: what CI runs.
    Test(check::Arguments),
    /// The long tests that `./x test` leaves out: all, or those with a name (`./x soak attacks`).
    Soak(check::SoakArguments),
    /// Compile the hypervisor and dom0's programs, or an embedded image alone.
    Build(BuildArguments),
    /// The functions that addresses of a panic lie in (`./x names --embedded intel
    /// ffff82d080212345`).
    Names(NamesArguments),
    /// Compile, and make the GRUB disc with Debian's kernel and dom0's initramfs.
    Image,
    /// Make a disk image with Debian 12 for a guest.
    GuestImage(guest_image::Arguments),
    /// Start the machine halted, and gdb with our symbols.
    Gdb(gdb::Arguments),
    /// The lints alone.
    Clippy,
    /// Oxen and Debian's Xen on the same machine, measured: docs/performance.md.
    Bench(bench::Arguments),
}

#[derive(clap::Args)]
struct BuildArguments {
    /// The hypervisor for one vendor's CPUs with hardware paging alone: at most 128 KiB
    #[arg(long, value_enum, value_name = "VENDOR")]
    embedded: Option<Vendor>,
    /// The price of each feature of the hypervisor, in bytes of the shipped image (minutes each)
    #[arg(long, conflicts_with = "embedded")]
    sizes: bool,
}

#[derive(clap::Args)]
struct NamesArguments {
    /// The image that stopped (the full one, if not given)
    #[arg(long, value_enum, value_name = "VENDOR")]
    embedded: Option<Vendor>,
    /// Addresses in hexadecimal
    #[arg(required = true)]
    addresses: Vec<String>,
}

fn main() -> ExitCode {
    match perform(Cli::parse().task) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("x: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<ExitCode> {
    match task {
        Task::Run(arguments) => return run::run(&arguments),
        Task::Test(arguments) => check::test(&arguments)?,
        Task::Soak(arguments) => check::soak(&arguments)?,
        Task::Build(arguments) => build_what(&arguments)?,
        Task::Names(arguments) => names(&arguments)?,
        Task::Image => image(false)?,
        Task::GuestImage(arguments) => guest_image::make(&arguments)?,
        Task::Gdb(arguments) => gdb::gdb(&arguments)?,
        Task::Clippy => check::clippy()?,
        Task::Bench(arguments) => bench::bench(&arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn build_what(arguments: &BuildArguments) -> Result<()> {
    match arguments.embedded {
        Some(vendor) => println!("{}", embedded::build(vendor)?),
        None if arguments.sizes => sizes::print()?,
        None => drop(build(false)?),
    }
    Ok(())
}

fn names(arguments: &NamesArguments) -> Result<()> {
    let list = match arguments.embedded {
        Some(vendor) => std::fs::read_to_string(vendor.names())
            .with_context(|| format!("run ./x build --embedded {} first", vendor.name()))?,
        None => compile::names()?,
    };
    symbols::print(&list, &arguments.addresses)
}

/// Compiles; `quiet` leaves stdout to something else.
fn build(quiet: bool) -> Result<Vec<std::path::PathBuf>> {
    // Cargo keeps apart what it builds for different profiles: both go on at the same time, and the
    // hypervisor's optimisation as a whole occupies one processor only.
    let (note, programs) = std::thread::scope(|scope| {
        let programs = scope.spawn(compile::dom0_programs);
        // The tests' guest has its turn here too: the programs take longest.
        let note = compile::hypervisor().and_then(|note| compile::test_guest().map(|_| note));
        (note, joined(programs.join()))
    });
    let note = note?;
    if !quiet {
        println!("{note}");
    }
    programs
}

/// The value that a joined thread returned. A panic of that thread goes on in this one.
pub(crate) fn joined<T>(result: std::thread::Result<T>) -> T {
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Makes dom0's system alone, for a machine without the hypervisor.
pub(crate) fn dom0(quiet: bool) -> Result<()> {
    let note = initramfs::build(&compile::dom0_programs()?)?;
    if !quiet {
        println!("{note}");
    }
    Ok(())
}

/// Makes everything that a machine boots.
pub(crate) fn image(quiet: bool) -> Result<()> {
    let (programs, fetched) = std::thread::scope(|scope| {
        // The network's time, while the compiler has the processors.
        let fetched = scope.spawn(|| debian::kernel().and(debian::busybox()));
        (build(quiet), joined(fetched.join()))
    });
    fetched?;
    let notes = [initramfs::build(&programs?)?, iso::build()?];
    if !quiet {
        println!("{}", notes.join("\n"));
    }
    Ok(())
}
