//! Shared parts of every `soak_fuzz` test: where its seeds begin, how long it runs, and how a
//! failure names its seed.
//!
//! `./x soak fuzz` runs one ignored test `soak_fuzz` of each crate. The test reads its first seed
//! from `OXEN_SEED` and its time from `OXEN_FUZZ_SECONDS`, runs one seed after another, and prints
//! one line that begins with `fuzz `. boot/src/fuzz.rs reads that line.
#![forbid(unsafe_code)]
#![warn(unreachable_pub, missing_docs, unused_qualifications)]
#![warn(clippy::wildcard_imports, clippy::allow_attributes)]

use std::time::{Duration, Instant};

/// The environment variable with the first seed.
const SEED: &str = "OXEN_SEED";
/// The environment variable with the seconds that a soak runs.
const SECONDS: &str = "OXEN_FUZZ_SECONDS";

/// The settings of one soak: the first seed and the end of its time.
#[derive(Debug, Clone, Copy)]
pub struct Soak {
    /// The first seed; round N has this seed plus N.
    pub seed: u64,
    end: Instant,
}

impl Soak {
    /// Reads the settings: seed 1 and 60 seconds where the environment does not say otherwise.
    ///
    /// # Panics
    /// If a variable is set to something else than a number: a soak of the wrong seed would prove
    /// nothing.
    #[must_use]
    pub fn from_env() -> Self {
        Self {
            seed: number(SEED, 1),
            end: Instant::now() + Duration::from_secs(number(SECONDS, 60)),
        }
    }

    /// Whether time is left for another round.
    #[must_use]
    pub fn has_time(&self) -> bool {
        Instant::now() < self.end
    }

    /// Runs `round` with one seed after another until the time is over, at least once. Returns the
    /// number of rounds.
    pub fn run(&self, mut round: impl FnMut(u64)) -> u64 {
        let mut rounds = 0;
        while rounds == 0 || self.has_time() {
            round(self.seed.wrapping_add(rounds));
            rounds += 1;
        }
        rounds
    }
}

/// Prints the seed when a test panics while this value lives, so that the failure can be repeated.
#[derive(Debug)]
pub struct Seed {
    name: &'static str,
    seed: u64,
    detail: Option<(&'static str, u64)>,
}

impl Seed {
    /// The seed of a round of the fuzzer called `name`.
    #[must_use]
    pub fn new(name: &'static str, seed: u64) -> Self {
        let detail = None;
        Self { name, seed, detail }
    }

    /// Adds the place within the round, such as `("file", 17)`.
    #[must_use]
    pub fn at(mut self, what: &'static str, number: u64) -> Self {
        self.detail = Some((what, number));
        self
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let Self { name, seed, detail } = self;
        match detail {
            None => eprintln!("fuzz {name}: failed with seed={seed}"),
            Some((what, number)) => {
                eprintln!("fuzz {name}: failed with seed={seed} at its {what} {number}");
            }
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => match text.parse() {
            Ok(number) => number,
            Err(error) => panic!("{name}={text} is not a number: {error}"),
        },
        Err(_) => default,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_soak_runs_once_even_without_time_and_seeds_wrap() {
        let mut soak = Soak {
            seed: u64::MAX,
            end: Instant::now(),
        };
        let mut seeds = Vec::new();
        assert_eq!(soak.run(|seed| seeds.push(seed)), 1);
        assert_eq!(seeds, [u64::MAX]);
        soak.end = Instant::now() + Duration::from_millis(20);
        seeds.clear();
        let rounds = soak.run(|seed| {
            seeds.push(seed);
            std::thread::sleep(Duration::from_millis(5));
        });
        assert!(rounds > 1 && rounds as usize == seeds.len());
        assert_eq!(seeds[..2], [u64::MAX, 0]);
    }
}
