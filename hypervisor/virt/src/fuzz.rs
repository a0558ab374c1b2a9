//! The emulator against its model: a few seeds in the default run, as many as there is time for by
//! `soak_fuzz` (`OXEN_SEED`, `OXEN_FUZZ_SECONDS`).

use oxen_fuzz::{Seed, Soak};

use crate::emul;

/// Emulates instructions from a seed, `scale` times as many as a short test would.
fn round(seed: u64, scale: u64) -> emul::fuzz::Counts {
    let _seed = Seed::new("virt", seed);
    emul::fuzz::run(seed, 2000 * scale)
}

#[test]
fn a_few_seeds() {
    let counts = round(1, 1);
    // Else it does not try what it should.
    assert!(counts.judged > counts.instructions / 2, "{counts:?}");
}

#[test]
#[ignore = "soak: runs for OXEN_FUZZ_SECONDS"]
fn soak_fuzz() {
    let soak = Soak::from_env();
    let mut instructions = 0;
    soak.run(|seed| instructions += round(seed, 10).instructions);
    let seed = soak.seed;
    std::println!("fuzz virt: seed={seed} instructions={instructions}");
}
