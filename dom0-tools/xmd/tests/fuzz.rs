//! Random requests, ends, failures and kills, on a hypervisor and a store in memory. Once nothing
//! fails any more, all must be as the journal says and nothing may be left of what is gone.
//!
//! `OXEN_SEED=7 OXEN_FUZZ_SECONDS=600 ./x cargo test -p xmd --test fuzz -- --ignored soak_fuzz`
//! runs for ten minutes. Each run of [`STEPS`] steps has a seed of its own, from that one on; a
//! failure names it.

#[path = "fuzz/machine.rs"]
mod machine;
#[path = "fuzz/random.rs"]
mod random;
#[path = "fuzz/requests.rs"]
mod requests;

use machine::Machine;
use oxen_fuzz::Soak;
use random::Random;
use std::fmt;

const STEPS: u32 = 400;

/// Counts of a run.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    /// Lines that were no request are among them.
    requests: u64,
    nonsense: u64,
    done: u64,
    ends: u64,
    failures: u64,
    restarts: u64,
    checks: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.nonsense += other.nonsense;
        self.done += other.done;
        self.ends += other.ends;
        self.failures += other.failures;
        self.restarts += other.restarts;
        self.checks += other.checks;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            requests,
            nonsense,
            done,
            ends,
            failures,
            restarts,
            checks,
        } = self;
        write!(
            f,
            "requests={requests} restarts={restarts} nonsense={nonsense} done={done} ends={ends} \
             failures={failures} checks={checks}"
        )
    }
}

/// Runs so many steps. What is wrong panics, with the seed.
fn run(seed: u64, steps: u32) -> Counts {
    let mut random = Random::new(seed);
    let mut counts = Counts::default();
    let mut machine = Machine::start(seed);
    for step in 0..steps {
        let place = format!("seed {seed}, step {step}");
        match random.below(100) {
            0..55 => machine.request(&mut random, &mut counts),
            55..67 => machine.end(&mut random, &mut counts),
            67..82 => machine.look(),
            82..92 => machine.fail(&mut random, &mut counts),
            92..97 => machine.restart(&mut random, &mut counts, &place),
            _ => machine.check(&mut counts, &place),
        }
    }
    machine.check(&mut counts, &format!("seed {seed}, at the end"));
    machine.destroy_all(&format!("seed {seed}"));
    counts
}

#[test]
fn runs_with_fixed_seeds_end_as_the_journal_says() {
    let mut counts = Counts::default();
    for seed in 1..=6 {
        counts.add(run(seed, STEPS));
    }
    assert!(counts.requests > 1000 && counts.done > 100, "{counts}");
    assert!(counts.restarts > 50 && counts.failures > 100, "{counts}");
    // The same seed does the same.
    assert_eq!(run(3, 60), run(3, 60));
}

#[test]
#[ignore = "runs as long as OXEN_FUZZ_SECONDS says: for ./x soak fuzz"]
fn soak_fuzz() {
    let soak = Soak::from_env();
    let mut counts = Counts::default();
    let runs = soak.run(|seed| counts.add(run(seed, STEPS)));
    let seed = soak.seed;
    println!("fuzz xmd: seed={seed} {counts} runs={runs}");
}
