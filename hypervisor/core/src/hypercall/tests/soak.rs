//! The hypercalls' part of `./x soak fuzz`: the random tests of `storm` and `fuzz` for as long as
//! `OXEN_FUZZ_SECONDS` says, each case from a seed of its own.
//!
//! The seed of case N is the first seed plus N. So `./x soak fuzz --seed S` begins with the case
//! that failed with the seed S. The cases run in child processes, as the test machine's memory is
//! never given back, and as a failed allocation ends the process that asked for memory.

use std::process::Command;
use std::string::{String, ToString};
use std::vec::Vec;
use std::{env, eprintln, fs, println};

use oxen_fuzz::Soak;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::{fuzz, progress, storm};
use crate::testing::{PAGE, World};

/// Cases of one child process.
const CHUNK: u64 = 100;
/// Where a child writes the seed of the case that it is at.
const PLACE: &str = "OXEN_FUZZ_PLACE";
const CALLS: &str = "hypercalls=";

#[test]
#[ignore = "runs as long as OXEN_FUZZ_SECONDS says: ./x soak fuzz"]
fn soak_fuzz() {
    let soak = Soak::from_env();
    let first = soak.seed;
    let place = env::temp_dir().join(std::format!("oxen-fuzz-core-{}", std::process::id()));
    let (mut cases, mut calls) = (0, 0);
    while cases == 0 || soak.has_time() {
        let child = Command::new(env::current_exe().expect("this program"))
            .args([
                "--ignored",
                "--nocapture",
                "--exact",
                "hypercall::tests::soak::soak_chunk",
            ])
            .env("OXEN_SEED", (first + cases).to_string())
            .env(PLACE, &place)
            .output()
            .expect("a child process");
        let text = String::from_utf8_lossy(&child.stdout);
        if !child.status.success() {
            eprintln!("{text}{}", String::from_utf8_lossy(&child.stderr));
            let seed = fs::read_to_string(&place).unwrap_or_default();
            let _ = fs::remove_file(&place);
            panic!("fuzz core: failed ({}), seed={seed}", child.status);
        }
        cases += CHUNK;
        calls += text
            .lines()
            .find_map(|line| line.split_once(CALLS)?.1.parse::<u64>().ok())
            .expect("a child says how many calls it made");
    }
    let _ = fs::remove_file(&place);
    println!("fuzz core: seed={first} cases={cases} {CALLS}{calls}");
}

#[test]
#[ignore = "a child process of soak_fuzz"]
fn soak_chunk() {
    let first = Soak::from_env().seed;
    let place = env::var_os(PLACE);
    let mut calls = 0;
    for seed in first..first + CHUNK {
        if let Some(place) = &place {
            fs::write(place, seed.to_string()).expect("a place for the seed");
        }
        calls += case(seed);
    }
    println!("{CALLS}{calls}");
}

/// Runs the case of a seed; returns how many hypercalls it made.
fn case(seed: u64) -> usize {
    if seed.is_multiple_of(16) {
        let steps = from_seed(
            seed,
            prop::collection::vec((0u8..4, 0u64..3, 0u32..900), 1..20),
        );
        resets(&steps);
        steps.len()
    } else if seed.is_multiple_of(2) {
        let steps = from_seed(seed, prop::collection::vec(fuzz::step(), 1..200));
        fuzz::no_call_of_these_harms(&steps);
        steps.len()
    } else {
        let steps: Vec<_> = from_seed(seed, storm::steps());
        let calls = steps.len();
        storm::all_frames_come_back_after(steps);
        calls
    }
}

/// Resets of event channels from several places, some of them given up in their middle: one that
/// ends has closed every port, and changed no register that is not its argument.
fn resets(steps: &[(u8, u64, u32)]) {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 1);
    for &(what, place, ports) in steps {
        let args = progress::ask_reset(&guest, (16 + place) * PAGE);
        match what {
            0 | 1 => {
                // Fewer than the two-level ABI has, however often a reset was given up.
                let room = 4000u32.saturating_sub(guest.domain.events.usage().0 as u32);
                progress::fill(&guest, ports.min(room));
            }
            2 => {
                let mut regs = progress::KEPT;
                regs[..2].copy_from_slice(&args);
                progress::part(&guest, 0, progress::EVENTS, &mut regs);
            }
            _ => {
                let (regs, result) = progress::run(&guest, progress::EVENTS, &args);
                assert_eq!((result, guest.domain.events.usage().0), (0, 0));
                assert_eq!(regs[2..], progress::KEPT[2..]);
            }
        }
    }
}

fn from_seed<S: Strategy>(seed: u64, strategy: S) -> S::Value {
    let mut bytes = [0x5a; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    strategy
        .new_tree(&mut runner)
        .expect("these strategies reject nothing")
        .current()
}

#[test]
fn a_case_follows_from_its_seed() {
    let calls = |seed| (case(seed), case(seed + 1));
    assert_eq!(calls(40), calls(40));
}
