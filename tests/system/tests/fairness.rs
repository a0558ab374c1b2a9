//! Eight guests with two vcpus each on two CPUs: each makes progress in proportion to its weight.

use anyhow::{Context, Result, ensure};
use regex_lite::Regex;
use system_tests::{Guest, Lab, machine};

const SECONDS: u64 = 30;
/// The tolerance of a share, in half a minute and with timers that the emulator serves late.
const TOLERANCE: f64 = 0.1;

#[test]
fn progress_is_in_proportion_to_weights() -> Result<()> {
    let mut lab = Lab::start_alone(&machine("dom0_mem=768M dom0_max_vcpus=1", "")?, "fairness")?;
    // Small beside dom0's 256: what it does to look at them is to be done soon.
    let weights = [16, 16, 32, 32, 32, 32, 64, 64];
    // dom0's own share must not matter: it waits. All start at once, and run until they are
    // destroyed.
    for (number, weight) in weights.iter().enumerate() {
        let config = Guest::test(
            &format!("share{number}"),
            &format!("test=share seconds={}", SECONDS * 100),
        )
        .set("vcpus", "2")
        .set("cpu_weight", &weight.to_string())
        .write(&mut lab)?;
        lab.sh(&format!("xm create -q -p {config}"))?;
    }
    lab.sh_in("for n in 0 1 2 3 4 5 6 7; do xm unpause share$n; done", 60)?;
    let look = |lab: &mut Lab| -> Result<Vec<f64>> {
        let domains = lab.domains()?;
        (0..weights.len())
            .map(|number| {
                let name = format!("share{number}");
                let domain = domains.iter().find(|it| it["name"] == name.as_str());
                let domain = domain.with_context(|| format!("{name} is gone"))?;
                domain["cpu_seconds"].as_f64().context("no CPU time")
            })
            .collect()
    };
    let before = look(&mut lab)?;
    lab.sh_in(&format!("sleep {SECONDS}"), SECONDS + 60)?;
    let after = look(&mut lab)?;
    let used: Vec<f64> = after
        .iter()
        .zip(&before)
        .map(|(after, before)| after - before)
        .collect();
    let all: f64 = used.iter().sum();
    let weight: u32 = weights.iter().sum();
    let shares = format!("{used:.2?}");
    for (number, used) in used.iter().enumerate() {
        let due = all * f64::from(weights[number]) / f64::from(weight);
        ensure!(
            (used - due).abs() <= due * TOLERANCE,
            "share{number} got {used:.2} s of {all:.2}, {due:.2} were due, of all: {shares}"
        );
    }
    ensure!(
        all > SECONDS as f64 * 1.5,
        "the guests got {all} s of {}",
        2 * SECONDS
    );
    // What they say themselves agrees: all counted, and more with more weight.
    let pattern = Regex::new(r"SHARE \d+ (\d+)")?;
    let mut counts = Vec::new();
    for number in 0..weights.len() {
        let log = lab.guest_log(&format!("share{number}"))?;
        let last = pattern
            .captures_iter(&log)
            .last()
            .with_context(|| format!("share{number} printed {log}"))?[1]
            .parse::<f64>()?;
        counts.push(last);
    }
    ensure!(
        counts[6] + counts[7] > 2.0 * (counts[0] + counts[1]),
        "counts {counts:?}"
    );
    lab.sh_in("for n in 0 1 2 3 4 5 6 7; do xm destroy share$n; done", 60)?;
    lab.finish()
}
