//! The emulator, guest walks and shadows against their models: a few seeds in the default run, as many as there is
//! time for by `soak_fuzz` (`OXEN_SEED`, `OXEN_FUZZ_SECONDS`).

use std::time::{Duration, Instant};

use crate::{emul, shadow, walk};

/// What was done.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    instructions: u64,
    judged: u64,
    walks: u64,
    shadow_steps: u64,
}

/// Loads of roots by a guest that crowds the cache.
const LOADS: u64 = 4000;

/// Says from where a failure can be repeated.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::eprintln!("fuzz virt: failed with seed={}", self.0);
        }
    }
}

/// All three from a seed, `scale` times as long as a short test would.
fn round(seed: u64, scale: u64) -> Counts {
    let _seed = Seed(seed);
    let emulated = emul::fuzz::run(seed, 2000 * scale);
    let (walks, shadow_steps) = (2000 * scale, 500 * scale);
    walk::tests::model::soak::run(seed, walks);
    shadow::tests::soak::run(seed, shadow_steps);
    // Each takes the memory of a machine, and gives none back.
    let loads = if seed % 8 == 1 { LOADS } else { 0 };
    if loads > 0 {
        shadow::tests::crowd::run(seed, loads);
    }
    Counts {
        instructions: emulated.instructions,
        judged: emulated.judged,
        walks,
        shadow_steps: shadow_steps + loads,
    }
}

#[test]
fn a_few_seeds() {
    let counts = round(1, 1);
    // Else it does not try what it should.
    assert!(counts.judged > counts.instructions / 2, "{counts:?}");
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
        sum.instructions += counts.instructions;
        sum.walks += counts.walks;
        sum.shadow_steps += counts.shadow_steps;
        next = next.wrapping_add(1);
    }
    std::println!(
        "fuzz virt: seed={seed} instructions={} walks={} shadow_steps={}",
        sum.instructions,
        sum.walks,
        sum.shadow_steps
    );
}
