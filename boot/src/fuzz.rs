//! `./x soak fuzz`: random input for every interface that a guest or a user reaches, with seeds.
//!
//! Each part is an ignored test of the crate it fuzzes, named `soak_fuzz`. The test reads its first
//! seed from `OXEN_SEED` and how long to go on from `OXEN_FUZZ_SECONDS`, and prints one line that
//! begins with `fuzz `: the seed, and counts of what it did. The attacking guests in QEMU run
//! beside the parts of the host.

use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};

use crate::compile::cargo;
use crate::exec::run;
use crate::findings::{self, Copy};

/// A crate with a test `soak_fuzz`, and its share of the time.
struct Part {
    package: &'static str,
    share: u64,
}

const PARTS: &[Part] = &[
    Part {
        package: "oxen-core",
        share: 5,
    },
    Part {
        package: "xenstored",
        share: 4,
    },
    Part {
        package: "oxen-virt",
        share: 1,
    },
    Part {
        package: "oxen-paging",
        share: 2,
    },
    Part {
        package: "oxen-config",
        share: 1,
    },
    Part {
        package: "xmgrub",
        share: 2,
    },
    Part {
        package: "xenconsoled",
        share: 1,
    },
    Part {
        package: "xmd",
        share: 2,
    },
];

/// Minutes, if nobody says how many: all parts, or a fault that is put back.
const MINUTES: u64 = 60;
const MINUTES_PLANTED: u64 = 5;

/// The settings of the fuzzers, as the command line has them.
pub(crate) struct Settings<'a> {
    pub minutes: Option<u64>,
    pub seed: Option<u64>,
    /// The ID of a finding whose fault is put back: it must be found.
    pub plant: Option<&'a str>,
}

pub(crate) fn fuzz(settings: &Settings) -> Result<()> {
    let seed = settings.seed.unwrap_or_else(seed_of_now);
    match settings.plant {
        Some(id) => planted(id, seed, settings.minutes.unwrap_or(MINUTES_PLANTED) * 60),
        None => all(seed, settings.minutes.unwrap_or(MINUTES) * 60),
    }
}

/// Six digits that nobody chose.
fn seed_of_now() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    now.as_secs() % 1_000_000
}

/// All parts of the host one after another, and the machine beside them.
fn all(seed: u64, seconds: u64) -> Result<()> {
    crate::image(true)?;
    for part in PARTS {
        run(&mut compile(cargo(), part.package))?;
    }
    run(crate::check::system_tests(1).args(["--exact", "none"]))?;
    eprintln!(
        "x: fuzzing with seed {seed} for {seconds} s; ./x soak fuzz --seed {seed} repeats it"
    );
    let (host, machine) = std::thread::scope(|scope| {
        let machine = scope.spawn(|| machine(seed, seconds));
        (parts(seed, seconds), crate::joined(machine.join()))
    });
    let mut failed = host;
    if let Err(error) = machine {
        failed.push(format!("attacking guests: {error:#}"));
    }
    if !failed.is_empty() {
        bail!(
            "{}\nx: repeat it with --seed and the seed that the part named",
            failed.join("\n")
        );
    }
    eprintln!("x: nothing found");
    Ok(())
}

fn parts(seed: u64, seconds: u64) -> Vec<String> {
    let shares: u64 = PARTS.iter().map(|part| part.share).sum();
    let mut failed = Vec::new();
    for part in PARTS {
        let test = soak_fuzz(cargo(), part.package, seed, seconds * part.share / shares);
        if let Err(error) = count(test) {
            failed.push(format!("{}: {error:#}", part.package));
        }
    }
    failed
}

/// Runs a fuzzer and prints its counts. A package without a fuzzer would succeed without any.
fn count(mut test: Command) -> Result<()> {
    let output = test.output()?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success(), "{text}");
    let counts: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("fuzz "))
        .collect();
    ensure!(!counts.is_empty(), "no fuzzer ran:\n{text}");
    println!("{}", counts.join("\n"));
    Ok(())
}

/// The attacking test guests, in QEMU.
fn machine(seed: u64, seconds: u64) -> Result<()> {
    let mut test = crate::check::system_tests(1);
    test.args(["--ignored", "--nocapture", "soak_fuzz"]);
    run(limits(&mut test, seed, seconds))
}

/// Puts the fault of a finding back, in a copy of the checkout; the fuzzer that its patch names
/// must find it.
fn planted(id: &str, seed: u64, seconds: u64) -> Result<()> {
    let patches = findings::all()?;
    let patch = patches
        .iter()
        .find(|patch| patch.ids.iter().any(|one| one == id))
        .with_context(|| format!("tests/findings has no {id}"))?;
    let package = patch.fuzz.as_deref().with_context(|| {
        format!("no fuzzer is meant to find {id}: its patch has no line \"Fuzz: PACKAGE\"")
    })?;
    ensure!(
        PARTS.iter().any(|part| part.package == package),
        "{package} has no fuzzer"
    );
    let copy = Copy::of_checkout("findings")?;
    copy.apply(patch)?;
    let found = hunt(&copy, package, seed, seconds);
    copy.restore(patch)?;
    let (after, text) = found?;
    println!("{id}: found by the fuzzer of {package} after {after} s, first seed {seed}:\n{text}");
    Ok(())
}

/// Returns after how many seconds the fuzzer failed, and the end of what it printed.
fn hunt(copy: &Copy, package: &str, seed: u64, seconds: u64) -> Result<(u64, String)> {
    run(&mut compile(copy.command("cargo"), package))?;
    let began = Instant::now();
    let output = soak_fuzz(copy.command("cargo"), package, seed, seconds).output()?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(
        !output.status.success(),
        "not found in {seconds} s (seed {seed}):\n{text}"
    );
    let lines: Vec<&str> = text.lines().collect();
    let end = lines[lines.len().saturating_sub(20)..].join("\n");
    Ok((began.elapsed().as_secs(), end))
}

fn compile(mut cargo: Command, package: &str) -> Command {
    cargo.args(["test", "-q", "-p", package, "--tests", "--no-run"]);
    cargo
}

fn soak_fuzz(mut cargo: Command, package: &str, seed: u64, seconds: u64) -> Command {
    cargo.args(["test", "-q", "-p", package, "--tests", "soak_fuzz"]);
    cargo.args(["--", "--ignored", "--nocapture"]);
    limits(&mut cargo, seed, seconds);
    cargo
}

fn limits(command: &mut Command, seed: u64, seconds: u64) -> &mut Command {
    command
        .env("OXEN_SEED", seed.to_string())
        .env("OXEN_FUZZ_SECONDS", seconds.to_string())
}
