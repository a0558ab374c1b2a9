//! Random requests of dom0 and of several guests by their rings, well-formed and not, with the
//! daemon dying at random points, against the model. Everything follows from the seed.
//!
//! The fixed part runs by default. `soak_fuzz` goes on for OXEN_FUZZ_SECONDS, from OXEN_SEED on.

#[path = "../common/mod.rs"]
mod common;
mod guests;
mod world;

use oxen_fuzz::Soak;
use world::{Counts, World};

/// A random run. It panics where store and model differ, and names seed and step.
fn run(seed: u64, steps: usize) -> Counts {
    let mut world = World::new(seed);
    for step in 0..steps {
        world.step = step;
        world.step();
    }
    world.finish();
    world.counts
}

#[test]
fn fixed_seeds_agree_with_the_model() {
    let mut all = Counts::default();
    for seed in 1..=8 {
        let counts = run(seed, 2500);
        all.requests += counts.requests;
        all.restarts += counts.restarts;
    }
    assert!(all.requests > 5000 && all.restarts > 100, "{all:?}");
    assert_eq!(run(1, 500), run(1, 500), "everything follows from the seed");
}

#[test]
#[ignore = "goes on for OXEN_FUZZ_SECONDS; ./x soak fuzz runs it"]
fn soak_fuzz() {
    let soak = Soak::from_env();
    let mut all = Counts::default();
    soak.run(|seed| {
        let counts = run(seed, 5000);
        all.requests += counts.requests;
        all.restarts += counts.restarts;
    });
    println!(
        "fuzz xenstored: seed={} requests={} restarts={}",
        soak.seed, all.requests, all.restarts
    );
}
