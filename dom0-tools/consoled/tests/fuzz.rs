//! Hostile guests and clients from a seed: a few in the default run, as many as there is time for
//! by `soak_fuzz` (`OXEN_SEED`, `OXEN_FUZZ_SECONDS`).

use oxen_fuzz::{Seed, Soak};
use xenconsoled::fuzz;

const TURNS: u64 = 2000;

fn round(seed: u64) -> fuzz::Counts {
    let _seed = Seed::new("consoled", seed);
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

#[test]
#[ignore = "soak: runs for OXEN_FUZZ_SECONDS"]
fn soak_fuzz() {
    let soak = Soak::from_env();
    let mut sum = fuzz::Counts::default();
    soak.run(|seed| {
        let counts = round(seed);
        sum.turns += counts.turns;
        sum.restarts += counts.restarts;
        sum.faults += counts.faults;
        sum.clients += counts.clients;
    });
    let seed = soak.seed;
    println!(
        "fuzz consoled: seed={seed} turns={} restarts={} faults={} clients={}",
        sum.turns, sum.restarts, sum.faults, sum.clients
    );
}
