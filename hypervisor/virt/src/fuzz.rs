//! The emulator against its model: a few seeds in the default run, as many as there is time for by `soak_fuzz`
//! (`OXEN_SEED`, `OXEN_FUZZ_SECONDS`).

use std::time::{Duration, Instant};

use crate::emul;

/// Says from where a failure can be repeated.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::eprintln!("fuzz virt: failed with seed={}", self.0);
        }
    }
}

/// Emulates instructions from a seed, `scale` times as many as a short test would.
fn round(seed: u64, scale: u64) -> emul::fuzz::Counts {
    let _seed = Seed(seed);
    emul::fuzz::run(seed, 2000 * scale)
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
    let mut instructions = 0;
    let mut next = seed;
    while Instant::now() < until {
        instructions += round(next, 10).instructions;
        next = next.wrapping_add(1);
    }
    std::println!("fuzz virt: seed={seed} instructions={instructions}");
}
