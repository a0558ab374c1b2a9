//! Hostile guests and clients from a seed: a few in the default run, as many as there is time for by
//! `soak_fuzz` (`OXEN_SEED`, `OXEN_FUZZ_SECONDS`).

use std::time::{Duration, Instant};
use xenconsoled::fuzz;

/// Says from where a failure can be repeated.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("fuzz consoled: failed with seed={}", self.0);
        }
    }
}

const TURNS: u64 = 2000;

fn round(seed: u64) -> fuzz::Counts {
    let _seed = Seed(seed);
    let scratch = tempfile::tempdir().expect("a scratch directory");
    fuzz::run(seed, TURNS, scratch.path())
}

#[test]
fn consoles_hold_against_a_few_seeds() {
    let (mut faults, mut restarts, mut clients) = (0, 0, 0);
    for seed in 1..=4 {
        let counts = round(seed);
        faults += counts.faults;
        restarts += counts.restarts;
        clients += counts.clients;
    }
    // Else it does not try what it should.
    assert!(faults > 0 && restarts > 0 && clients > 0);
}

fn number(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
#[ignore = "soak: runs for OXEN_FUZZ_SECONDS"]
fn soak_fuzz() {
    let seed = number("OXEN_SEED", 1);
    let until = Instant::now() + Duration::from_secs(number("OXEN_FUZZ_SECONDS", 60));
    let mut sum = fuzz::Counts::default();
    let mut next = seed;
    while Instant::now() < until {
        let counts = round(next);
        sum.turns += counts.turns;
        sum.restarts += counts.restarts;
        sum.faults += counts.faults;
        sum.clients += counts.clients;
        next = next.wrapping_add(1);
    }
    println!(
        "fuzz consoled: seed={seed} turns={} restarts={} faults={} clients={}",
        sum.turns, sum.restarts, sum.faults, sum.clients
    );
}
