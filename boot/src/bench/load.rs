//! An idle machine, and one that works like the build of a kernel: beside the bare kernel's time.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use super::figures::{LOAD, Measured, Samples};
use super::system::{Bench, Start, System};

/// Measures the named figure, or all of them.
pub(super) fn measure(
    bench: &Bench,
    systems: &[System],
    only: Option<&str>,
) -> Result<Vec<Measured>> {
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    let bare = if wanted("load-dom0") || wanted("load-guest") {
        eprintln!("x: work on the bare machine");
        let lines = bench.run(System::Oxen, Start::Bare, "sh /bench/work.sh bare")?;
        let found = parse(&lines, 1.0)?;
        *found.get("bare").context("the bare machine did not work")?
    } else {
        1.0
    };
    let mut of = BTreeMap::new();
    for system in systems {
        eprintln!("x: idling and working on {}", system.name());
        let command = format!("sh /bench/load.sh {}", only.unwrap_or_default());
        let lines = bench.run(*system, Start::Direct, &command)?;
        of.insert(system.name(), parse(&lines, bare)?);
    }
    let taken = |system: System, name: &str| {
        let found = of.get(system.name()).and_then(|all| all.get(name));
        found.copied().map(Samples::from)
    };
    let figures = LOAD.iter().filter(|figure| wanted(figure.name));
    Ok(figures
        .map(|figure| {
            let [oxen, xen] = System::BOTH.map(|system| taken(system, figure.name));
            Measured::new(figure, oxen, xen)
        })
        .collect())
}

/// `IDLE time before after` in seconds; `WORK where from to` in ticks, given in multiples of `bare`.
fn parse(lines: &[String], bare: f64) -> Result<BTreeMap<String, f64>> {
    let mut found = BTreeMap::new();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |word: &str| {
            let number = word.parse::<f64>();
            number.with_context(|| format!("no number in {line:?}"))
        };
        match words[..] {
            ["IDLE", time, before, after] => {
                let share = (number(after)? - number(before)?) / number(time)?;
                found.insert("idle".to_owned(), share * 1e6);
            }
            ["WORK", place, from, to] => {
                let name = match place {
                    "dom0" => "load-dom0",
                    "guest" => "load-guest",
                    other => other,
                };
                found.insert(name.to_owned(), (number(to)? - number(from)?) / bare);
            }
            ["FAIL", ..] => bail!("{line}"),
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_lines() {
        let lines = ["IDLE 2000 1.0 1.5", "noise", "WORK dom0 100 320"].map(str::to_owned);
        let found = parse(&lines, 200.0).expect("well-formed");
        assert_eq!(found.get("idle"), Some(&250.0));
        assert_eq!(found.get("load-dom0"), Some(&1.1));
        assert!(parse(&["WORK dom0 1 x".to_owned()], 1.0).is_err());
    }
}
