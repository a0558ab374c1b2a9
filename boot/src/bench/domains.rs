//! Creating, listing and destroying guests, with each system's own toolset.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use super::figures::{DOMAINS, Measured, Samples};
use super::system::{Bench, Start, System};

const GUEST_KIB: f64 = 8192.0;

/// How many guests at a time.
const COUNTS: [&str; 4] = ["1", "10", "50", "100"];

/// Measures the named figure, or all of them.
pub(super) fn measure(
    bench: &Bench,
    systems: &[System],
    only: Option<&str>,
) -> Result<Vec<Measured>> {
    let counts = match only {
        None => COUNTS.join(" "),
        // Memory is known in MiB: it takes many guests to see their KiB.
        Some("memory-per-guest") => "100".to_owned(),
        Some(name) => name.strip_prefix("guests-").unwrap_or_default().to_owned(),
    };
    let command = format!("sh /bench/domains.sh {counts}");
    let of = Bench::on_each(systems, |system| {
        eprintln!("x: creating guests on {}", system.name());
        parse(&bench.run(system, Start::Direct, &command)?)
    })?;
    let taken = |system, name| {
        let found = of.get(&system).and_then(|all| all.get(name));
        found.copied().map(Samples::from)
    };
    Ok(DOMAINS
        .iter()
        .filter(|figure| only.is_none_or(|only| only == figure.name))
        .map(|figure| {
            let [oxen, xen] = System::BOTH.map(|system| taken(system, figure.name));
            Measured::new(figure, oxen, xen)
        })
        .collect())
}

/// `TIME name from to [from to]` in nanoseconds, where `clock` is what a look at the clock takes;
/// `MEMORY guests before after` in MiB.
pub(super) fn parse(lines: &[String]) -> Result<BTreeMap<String, f64>> {
    let mut found = BTreeMap::new();
    let mut clock = 0.0;
    for line in lines {
        let mut words = line.split_whitespace();
        let kind = words.next();
        if kind == Some("FAIL") {
            bail!("{line}");
        }
        if !matches!(kind, Some("TIME" | "MEMORY")) {
            continue;
        }
        let name = words.next().context("a figure without a name")?;
        let numbers: Vec<f64> = words
            .map(str::parse)
            .collect::<Result<_, _>>()
            .with_context(|| format!("no numbers in {line:?}"))?;
        let (name, value) = match (kind, &numbers[..]) {
            (Some("TIME"), spans) => {
                let (spans, rest) = spans.as_chunks::<2>();
                if !rest.is_empty() || spans.is_empty() {
                    bail!("not a span of time: {line:?}");
                }
                let time = |[from, to]: &[f64; 2]| (to - from) / 1e6 - clock;
                (name, spans.iter().map(time).sum())
            }
            (_, [before, after]) => {
                let guests: f64 = name.parse()?;
                let each = (before - after) * 1024.0 / guests - GUEST_KIB;
                ("memory-per-guest", each)
            }
            _ => bail!("not a pair of free memory: {line:?}"),
        };
        if name == "clock" {
            clock = value;
        } else {
            found.insert(name.to_owned(), value);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_s_lines() {
        let lines = [
            "warming up",
            "TIME clock 9000000000 9001000000",
            "TIME create 10000000000 10251000000",
            "TIME guests-10 11000000000 12001000000 12500000000 13001000000",
            "MEMORY 100 2000 1190",
        ];
        let found = parse(&lines.map(str::to_owned)).expect("well-formed");
        assert_eq!(found.get("create"), Some(&250.0));
        assert_eq!(found.get("guests-10"), Some(&1500.0));
        let each = found.get("memory-per-guest").copied().unwrap_or_default();
        assert!((each - 102.4).abs() < 0.001);
        assert!(parse(&["TIME create 1".to_owned()]).is_err());
        assert!(parse(&["FAIL not listed".to_owned()]).is_err());
    }
}
