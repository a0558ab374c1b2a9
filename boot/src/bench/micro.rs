//! The counts that our own guest makes, on both systems.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use super::figures::{MICRO, Measured, Samples};
use super::system::{Bench, Start, System};

/// The ending of the names of figures that take two CPUs.
const ACROSS: &str = "-cpus";

/// Measures the named figure, or all of them; `systems` says where.
pub(crate) fn measure(
    bench: &Bench,
    systems: &[System],
    only: Option<&str>,
) -> Result<Vec<Measured>> {
    let mut machines = Vec::new();
    for start in [Start::Direct, Start::DirectTwo] {
        let wanted = |name: &str| name.ends_with(ACROSS) == (start == Start::DirectTwo);
        if only.is_none_or(wanted) {
            machines.extend(systems.iter().map(|&system| (system, start)));
        }
    }
    let of = Bench::on_each(&machines, |(system, start)| {
        let (what, command) = if start == Start::DirectTwo {
            let name = only.unwrap_or_default();
            (" on two CPUs", format!("sh /bench/cpus.sh {name}"))
        } else {
            let only = only.map(|name| format!("only={name}"));
            let only = only.unwrap_or_default();
            ("", format!("sh /bench/micro.sh {only}"))
        };
        eprintln!("x: counting instructions{what} on {}", system.name());
        parse(&bench.run(system, start, &command)?)
    })?;
    let taken = |of_system, name| {
        let mut of_it = of.iter().filter(|((system, _), _)| *system == of_system);
        of_it.find_map(|(_, all)| all.get(name))
    };
    let figures = MICRO
        .iter()
        .filter(|figure| only.is_none_or(|only| only == figure.name));
    let measured: Vec<_> = figures
        .map(|figure| {
            let [oxen, xen] = System::BOTH.map(|system| taken(system, figure.name).copied());
            Measured::new(figure, oxen, xen)
        })
        .collect();
    for one in &measured {
        if one.oxen.is_none() {
            bail!("the guest measured no {} (see target/test-logs)", one.name);
        }
    }
    Ok(measured)
}

/// Lines of the form `BENCH name min=N median=N max=N`, in hundredths.
pub(super) fn parse(lines: &[String]) -> Result<BTreeMap<String, Samples>> {
    let mut found = BTreeMap::new();
    for line in lines {
        if line.starts_with("FAIL") {
            bail!("the guest failed: {line}");
        }
        let Some(rest) = line.strip_prefix("BENCH ") else {
            continue;
        };
        let mut words = rest.split_whitespace();
        let name = words.next().context("a figure without a name")?;
        let mut number = |key: &str| -> Result<f64> {
            let word = words.next().unwrap_or_default();
            let (found, value) = word.split_once('=').unwrap_or_default();
            if found != key {
                bail!("no {key} in {line:?}");
            }
            Ok(value.parse::<f64>()? / 100.0)
        };
        let samples = Samples {
            min: number("min")?,
            median: number("median")?,
            max: number("max")?,
        };
        found.insert(name.to_owned(), samples);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_s_lines() {
        let lines = [
            "TEST bench",
            "BENCH hypercall min=100 median=250 max=300",
            "PASS bench",
        ];
        let lines = lines.map(str::to_owned);
        let found = parse(&lines).expect("well-formed");
        let expected = Samples {
            min: 1.0,
            median: 2.5,
            max: 3.0,
        };
        assert_eq!(found.get("hypercall"), Some(&expected));
        assert!(parse(&["BENCH hypercall min=1".to_owned()]).is_err());
        assert!(parse(&["FAIL map: -9".to_owned()]).is_err());
    }
}
