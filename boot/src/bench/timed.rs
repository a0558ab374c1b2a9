//! Time beside the counts: machines that do not count, one at a time, the systems by turns.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

use super::figures::{self, MICRO, Measured, Time};
use super::system::{Bench, Start, System};
use super::{domains, micro};

/// So many starts of each system, if not told otherwise.
pub(super) const PAIRS: usize = 5;

const PROMPT: &str = "boot-prompt";
/// Timers are another thread of the emulator's, which is late by more than the path takes; two CPUs
/// share one thread by turns of 100 ms; and a vcpu that sleeps by HLT may miss its interrupt under
/// Xen here (docs/testing.md).
const UNTIMED: [&str; 5] = [
    "lapic-timer",
    "singleshot-timer",
    "event-ping-pong-cpus",
    "ipi-ping-pong",
    "ipi-ping-pong-cpus",
];
const GUESTS: [&str; 2] = ["create", "create-first-line"];

/// The result of one start of the machine: figures in ticks (or their millions), and how many ticks
/// there are in a microsecond.
#[derive(Debug, PartialEq)]
struct Run {
    figures: BTreeMap<String, f64>,
    rate: f64,
}

/// Gives those figures their time that have one.
pub(super) fn measure(
    bench: &Bench,
    systems: &[System],
    pairs: usize,
    measured: &mut [Measured],
) -> Result<()> {
    let names: Vec<&str> = measured
        .iter()
        .map(|one| one.name.as_str())
        .filter(|name| has_time(name))
        .collect();
    if names.is_empty() || pairs == 0 {
        return Ok(());
    }
    let command = format!("sh /bench/timed.sh {}", parts(&names));
    let mut runs: BTreeMap<System, Vec<Run>> = BTreeMap::new();
    for pair in 1..=pairs {
        for &system in systems {
            eprintln!("x: time, {pair} of {pairs}, on {}", system.name());
            let lines = bench.run(system, Start::DiscTimed, &command)?;
            runs.entry(system).or_default().push(parse(&lines)?);
        }
    }
    let nanoseconds = nanoseconds(runs.values().flatten())?;
    for one in measured.iter_mut().filter(|one| has_time(&one.name)) {
        let of = |system| -> Result<Vec<f64>> {
            let all = runs.get(&system).into_iter().flatten();
            all.map(|run| {
                let ticks = run.figures.get(&one.name);
                let ticks = ticks
                    .with_context(|| format!("{} was not timed on {}", one.name, system.name()))?;
                Ok(ticks * nanoseconds)
            })
            .collect()
        };
        one.time = Some(Time::new(
            unit(&one.name),
            &of(System::Oxen)?,
            &of(System::Xen)?,
        ));
    }
    Ok(())
}

/// The other guests are many, and other ways to boot would take as long again.
pub(super) fn has_time(name: &str) -> bool {
    is_micro(name) || name == PROMPT || GUESTS.contains(&name)
}

fn is_micro(name: &str) -> bool {
    let mut micro = MICRO.iter();
    micro.any(|figure| figure.name == name) && !UNTIMED.contains(&name)
}

fn unit(name: &str) -> &'static str {
    if is_micro(name) {
        "ns"
    } else {
        figures::MILLISECONDS
    }
}

/// The script's arguments: no more than what the figures need.
fn parts(names: &[&str]) -> String {
    let micro: BTreeSet<&str> = names
        .iter()
        .copied()
        .filter(|name| is_micro(name))
        .collect();
    let mut parts = Vec::new();
    match (micro.len(), micro.first()) {
        (1, Some(only)) => parts.push(format!("only={only}")),
        (_, Some(_)) => parts.push("micro".to_owned()),
        _ => {}
    }
    if names.iter().any(|name| GUESTS.contains(name)) {
        parts.push("guests".to_owned());
    }
    parts.join(" ")
}

/// The lines of the other scripts, and `MHZ rate`.
fn parse(lines: &[String]) -> Result<Run> {
    let mut figures = domains::parse(lines)?;
    let micro = micro::parse(lines)?;
    figures.extend(
        micro
            .into_iter()
            .map(|(name, samples)| (name, samples.median)),
    );
    let rate = lines.iter().find_map(|line| line.strip_prefix("MHZ "));
    let rate = rate.context("dom0 does not know how fast its clock is")?;
    let rate: f64 = rate
        .trim()
        .parse()
        .with_context(|| format!("no number: {rate:?}"))?;
    if rate <= 0.0 {
        bail!("a clock that stands still");
    }
    Ok(Run { figures, rate })
}

/// A tick's. The clock is the host's in all machines: what one hypervisor found amiss of its rate
/// shall not be in the ratios.
fn nanoseconds<'a>(runs: impl Iterator<Item = &'a Run>) -> Result<f64> {
    let rates: Vec<f64> = runs.map(|run| run.rate).collect();
    let rates = figures::Samples::of(&rates).context("nothing was timed")?;
    Ok(1000.0 / rates.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_s_lines() {
        let lines = [
            "TIME boot-prompt 0 9000000000",
            "MHZ 2000.000",
            "BENCH cpuid min=100 median=250 max=300",
            "TIME clock 9000000000 9001000000",
            "TIME create 9100000000 9111000000",
        ];
        let lines = lines.map(str::to_owned);
        let run = parse(&lines).expect("well-formed");
        let of = |name| run.figures.get(name).copied();
        assert_eq!(of("boot-prompt"), Some(9000.0));
        assert_eq!(of("cpuid"), Some(2.5));
        assert_eq!(of("create"), Some(10.0));
        assert_eq!(nanoseconds([run].iter()).ok(), Some(0.5));
        assert!(parse(&lines[..1]).is_err());
        assert!(parse(&["MHZ 0".to_owned()]).is_err());
        assert!(parse(&["MHZ 2000".to_owned(), "FAIL it".to_owned()]).is_err());
    }

    #[test]
    fn no_more_is_run_than_asked_for() {
        assert_eq!(parts(&["boot-prompt"]), "");
        assert_eq!(parts(&["cpuid"]), "only=cpuid");
        assert_eq!(parts(&["create", "create-first-line"]), "guests");
        assert_eq!(parts(&["cpuid", "yield", "create"]), "micro guests");
        assert!(has_time("event-ping-pong") && !has_time("event-ping-pong-cpus"));
    }
}
