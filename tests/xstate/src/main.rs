//! `test-xstate SEED SECONDS`, in dom0: patterns in this program's extended state, while guests do
//! the same. Prints `PASS` or `FAIL` and what it covered; the status is 1 at a failure.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use test_xstate::{State, usable};

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|word| word.parse());
    let (Some(Ok(seed)), Some(Ok(seconds))) = (numbers.next(), numbers.next()) else {
        eprintln!("usage: test-xstate SEED SECONDS");
        return ExitCode::from(2);
    };
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mask, mut rounds, mut state) = (usable(), 0u64, Box::new(State::new()));
    let mut random = random(seed);
    while rounds == 0 || Instant::now() < end {
        state.fill(mask, &mut random);
        let count = random() % 3_000_000;
        hold(&mut state, count);
        if let Err(changed) = state.compare() {
            println!("FAIL xstate {changed} components={mask:#x} round={rounds}");
            return ExitCode::FAILURE;
        }
        rounds += 1;
    }
    println!("PASS xstate components={mask:#x} rounds={rounds}");
    ExitCode::SUCCESS
}

#[allow(unsafe_code, reason = "loads the vector registers")]
fn hold(state: &mut State, count: u64) {
    // SAFETY: the mask is `usable`.
    unsafe { state.hold(count) };
}

/// SplitMix64.
fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
