//! Time in guests and dom0: it never goes back, and drifts from the host's by less than a
//! thousandth; extended state survives the switches between guests that use it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use regex_lite::Regex;
use system_tests::{Guest, Lab, plain};

const SECONDS: u64 = 60;

#[test]
fn clocks_go_forward_and_keep_the_hosts_pace() -> Result<()> {
    let mut lab = Lab::start_alone(&plain()?, "time")?;
    let name = Guest::test("clock", &format!("test=clock seconds={}", SECONDS + 15))
        .set("vcpus", "2")
        .create(&mut lab)?;
    // Two vcpus compute at the same time as the first guest's.
    let look = |lab: &mut Lab| -> Result<(Instant, f64, f64)> {
        // The moment between sending and the answer, of the quickest of some tries.
        let mut best: Option<(Duration, Instant, f64)> = None;
        for _ in 0..8 {
            let sent = Instant::now();
            let uptime = lab.sh("cut -d' ' -f1 /proc/uptime")?;
            let took = sent.elapsed();
            if best.as_ref().is_none_or(|(least, ..)| took < *least) {
                best = Some((took, sent + took / 2, uptime.parse()?));
            }
        }
        let (took, at, uptime) = best.context("no look")?;
        Ok((at, uptime, took.as_secs_f64()))
    };
    let (began, up, error) = look(&mut lab)?;
    lab.sh_in(&format!("sleep {SECONDS}"), SECONDS + 60)?;
    let (ended, up_later, error_later) = look(&mut lab)?;
    let host = ended.duration_since(began).as_secs_f64();
    let dom0 = up_later - up;
    let allowed = host * 0.001 + (error + error_later) / 2.0 + 0.02;
    ensure!(
        (dom0 - host).abs() <= allowed,
        "dom0 counted {dom0:.3} s, the host {host:.3} (+-{allowed:.3})"
    );

    // The guest's clock is the same one: what it measured is what dom0's kernel measured.
    ensure!(lab.end_of(&name, 60)? == "poweroff");
    let log = lab.guest_log(&name)?;
    ensure!(log.contains("PASS clock cpus=2"), "it printed:\n{log}");
    let stamp = |word: &str| -> Result<f64> {
        let found = Regex::new(&format!(r"CLOCK {word} (\d+)"))?;
        let text = &found
            .captures(&log)
            .with_context(|| format!("no {word} in {log}"))?[1];
        Ok(text.parse::<f64>()? / 1e9)
    };
    let passed = stamp("end")? - stamp("begin")?;
    ensure!(
        (passed - (SECONDS + 15) as f64).abs() < 0.5,
        "{passed} s passed in the guest"
    );
    lab.destroy(&name)?;
    lab.finish()
}

#[test]
fn extended_state_survives_preemption() -> Result<()> {
    let mut machine = plain()?;
    machine.cpus = 1;
    let mut lab = Lab::start(&machine, "fpu")?;
    // The last one has enabled nothing in XCR0, and sees only its own SSE registers and keys all
    // the same.
    let names = [
        ("fpu1", "fpu"),
        ("fpu2", "fpu"),
        ("fpu3", "fpu"),
        ("fpu4", "fpu-unannounced"),
    ];
    for (seed, (name, test)) in (1..).zip(names) {
        Guest::test(name, &format!("test={test} seed={seed} seconds=15")).create(&mut lab)?;
    }
    // dom0 uses vector registers meanwhile.
    lab.sh_in(
        "for i in 1 2 3; do head -c 3000000 /dev/urandom | sha256sum; done",
        60,
    )?;
    let pattern = Regex::new(r"gaps=(\d+)")?;
    for (name, test) in names {
        lab.end_of(name, 90)?;
        let log = lab.guest_log(name)?;
        let passed = log.contains(&format!("PASS {test} "));
        ensure!(passed, "{name} printed:\n{log}");
        let gaps = pattern.captures(&log).context("no gaps")?[1].parse::<u64>()?;
        ensure!(gaps > 10, "nothing else ran: {log}");
        lab.destroy(name)?;
    }
    lab.finish()
}
