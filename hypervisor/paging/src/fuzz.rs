//! Guest walks and shadows against their models: a few seeds in the default run, as many as there is time for by
//! `soak_fuzz` (`OXEN_SEED`, `OXEN_FUZZ_SECONDS`).

use std::time::{Duration, Instant};

use crate::shadow::cache::tests::crowd;
use crate::{shadow, walk};

/// Work done so far.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    walks: u64,
    shadow_steps: u64,
}

/// Loads of roots by a guest that crowds the cache.
const LOADS: u64 = 4000;

/// Prints the seed from which a failure can be repeated.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::eprintln!("fuzz paging: failed with seed={}", self.0);
        }
    }
}

/// Both from a seed, `scale` times as long as a short test would.
fn round(seed: u64, scale: u64) -> Counts {
    let _seed = Seed(seed);
    let (walks, shadow_steps) = (2000 * scale, 500 * scale);
    walk::tests::model::soak::run(seed, walks);
    shadow::tests::soak::run(seed, shadow_steps);
    // Each round of these takes the memory of a machine, and gives none back.
    let loads = if seed % 8 == 1 { LOADS } else { 0 };
    if loads > 0 {
        crowd::run(seed, loads);
    }
    Counts {
        walks,
        shadow_steps: shadow_steps + loads,
    }
}

#[test]
fn a_few_seeds() {
    let counts = round(1, 1);
    assert_eq!((counts.walks, counts.shadow_steps), (2000, 500 + LOADS));
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
    let mut sum = Counts::default();
    let mut next = seed;
    while Instant::now() < until {
        let counts = round(next, 10);
        sum.walks += counts.walks;
        sum.shadow_steps += counts.shadow_steps;
        next = next.wrapping_add(1);
    }
    std::println!(
        "fuzz paging: seed={seed} walks={} shadow_steps={}",
        sum.walks,
        sum.shadow_steps
    );
}
