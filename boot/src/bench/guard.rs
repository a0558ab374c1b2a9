//! The guard of `./x test`: no path of Oxen's may grow by more than a tenth unseen.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use oxen_harness::images;

use super::figures::{MICRO, Measured};
use super::micro;
use super::system::{Bench, System};
use crate::compile::write_whole;

/// Instructions, by figure.
type Baseline = BTreeMap<String, f64>;

const MOST_GROWTH: f64 = 1.10;

fn file() -> PathBuf {
    images::root().join("boot/bench/baseline.json")
}

/// Counts on Oxen alone, and compares with what was recorded.
pub(crate) fn check() -> Result<()> {
    let text =
        fs::read_to_string(file()).with_context(|| format!("cannot read {}", file().display()))?;
    let baseline: Baseline = serde_json::from_str(&text).context("the baseline is damaged")?;
    let now = micro::measure(&Bench::new(false, false)?, &[System::Oxen], None)?;
    let grown = grown(&baseline, &now)?;
    ensure!(
        grown.is_empty(),
        "paths of the hypervisor grew by more than a tenth (if that is meant, ./x bench --record, and say \
         why in the commit):\n{}",
        grown.join("\n")
    );
    Ok(())
}

/// Makes these results the baseline.
pub(super) fn record(measured: &[Measured]) -> Result<()> {
    let counts = measured
        .iter()
        .filter(|one| one.unit == "instructions")
        .filter_map(|one| Some((one.name.clone(), one.oxen?)));
    let baseline: Baseline = counts.collect();
    for figure in MICRO {
        ensure!(
            baseline.contains_key(figure.name),
            "no baseline without {}: record all of micro",
            figure.name
        );
    }
    let text = serde_json::to_string_pretty(&baseline)? + "\n";
    write_whole(&file(), text.as_bytes())
}

fn grown(baseline: &Baseline, now: &[Measured]) -> Result<Vec<String>> {
    let mut grown = Vec::new();
    for one in now {
        let (Some(before), Some(count)) = (baseline.get(&one.name), one.oxen) else {
            bail!("the baseline knows no {}: ./x bench --record", one.name);
        };
        if count > before * MOST_GROWTH {
            let percent = (count / before - 1.0) * 100.0;
            grown.push(format!(
                "{}: {before:.0} became {count:.0} instructions (+{percent:.0} %)",
                one.name
            ));
        }
    }
    Ok(grown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::Samples;

    fn measured(count: f64) -> Vec<Measured> {
        vec![Measured::new(&MICRO[0], Some(Samples::from(count)), None)]
    }

    #[test]
    fn growth_beyond_a_tenth_is_named() {
        let baseline = Baseline::from([(MICRO[0].name.to_owned(), 1000.0)]);
        assert!(grown(&baseline, &measured(1099.0)).is_ok_and(|grown| grown.is_empty()));
        assert!(grown(&baseline, &measured(500.0)).is_ok_and(|grown| grown.is_empty()));
        let found = grown(&baseline, &measured(1200.0)).expect("the figure is known");
        assert!(matches!(&found[..], [one] if one.contains("+20 %")));
        assert!(grown(&Baseline::new(), &measured(1.0)).is_err());
    }

    #[test]
    fn the_recorded_baseline_knows_every_figure() {
        let text = fs::read_to_string(file()).expect("the baseline is there");
        let baseline: Baseline = serde_json::from_str(&text).expect("well-formed");
        for figure in MICRO {
            assert!(baseline.contains_key(figure.name), "{}", figure.name);
        }
    }
}
