//! Guest walks and shadows against their models: a few seeds in the default run, as many as there
//! is time for by `soak_fuzz` (`OXEN_SEED`, `OXEN_FUZZ_SECONDS`).

use oxen_fuzz::{Seed, Soak};

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

/// Both from a seed, `scale` times as long as a short test would.
fn round(seed: u64, scale: u64) -> Counts {
    let _seed = Seed::new("paging", seed);
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

#[test]
#[ignore = "soak: runs for OXEN_FUZZ_SECONDS"]
fn soak_fuzz() {
    let soak = Soak::from_env();
    let mut sum = Counts::default();
    soak.run(|seed| {
        let counts = round(seed, 10);
        sum.walks += counts.walks;
        sum.shadow_steps += counts.shadow_steps;
    });
    let seed = soak.seed;
    std::println!(
        "fuzz paging: seed={seed} walks={} shadow_steps={}",
        sum.walks,
        sum.shadow_steps
    );
}
