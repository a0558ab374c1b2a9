//! An idle machine, and one that works like the build of a kernel: beside the bare kernel's time.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use super::figures::{Figure, LOAD, Measured, OF_BARE, Samples};
use super::system::{Bench, Start, System};

/// Measures the named figure, or all of them.
pub(super) fn measure(
    bench: &Bench,
    systems: &[System],
    only: Option<&str>,
) -> Result<Vec<Measured>> {
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    // Both figures of the idle machine come of the same minutes.
    let part = match only {
        Some("idle-exits" | "idle-instructions") => "idle",
        Some(other) => other,
        None => "",
    };
    let command = format!("sh /bench/load.sh {part}");
    let of = Bench::on_each(systems, |system| {
        let mut found = BTreeMap::new();
        // Once, on the thread of the one that is done sooner.
        if system == System::Oxen && part != "idle" {
            eprintln!("x: work on the bare machine");
            found = parse(&bench.run(system, Start::Bare, "sh /bench/work.sh bare")?)?;
        }
        eprintln!("x: idling and working on {}", system.name());
        let (lines, marks) = bench.run_counting(system, Start::Direct, &command)?;
        found.append(&mut parse(&lines)?);
        if let Some(seconds) = found.get("idle") {
            let [before, after, ..] = marks[..] else {
                bail!("the counter saw no idle time");
            };
            let exits = (after.entries - before.entries) / seconds;
            let instructions = (after.instructions - before.instructions) / seconds;
            found.insert("idle-exits".to_owned(), exits);
            found.insert("idle-instructions".to_owned(), instructions);
        }
        Ok(found)
    })?;
    let bare = of.get(&System::Oxen).and_then(|all| all.get("bare"));
    let taken = |system, figure: &Figure| {
        let found = *of.get(&system)?.get(figure.name)?;
        let value = if figure.unit == OF_BARE {
            found / bare?
        } else {
            found
        };
        Some(Samples::from(value))
    };
    let figures = LOAD.iter().filter(|figure| wanted(figure.name));
    Ok(figures
        .map(|figure| {
            let [oxen, xen] = System::BOTH.map(|system| taken(system, figure));
            Measured::new(figure, oxen, xen)
        })
        .collect())
}

/// `IDLE seconds`; `WORK where from to` in ticks.
fn parse(lines: &[String]) -> Result<BTreeMap<String, f64>> {
    let mut found = BTreeMap::new();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |word: &str| {
            let number = word.parse::<f64>();
            number.with_context(|| format!("no number in {line:?}"))
        };
        match words[..] {
            ["IDLE", seconds] => {
                found.insert("idle".to_owned(), number(seconds)?);
            }
            ["WORK", place, from, to] => {
                let name = match place {
                    "dom0" => "load-dom0",
                    "guest" => "load-guest",
                    other => other,
                };
                found.insert(name.to_owned(), number(to)? - number(from)?);
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
        let lines = ["IDLE 500", "noise", "WORK dom0 100 320"].map(str::to_owned);
        let found = parse(&lines).expect("well-formed");
        assert_eq!(found.get("idle"), Some(&500.0));
        assert_eq!(found.get("load-dom0"), Some(&220.0));
        assert!(parse(&["WORK dom0 1 x".to_owned()]).is_err());
    }
}
