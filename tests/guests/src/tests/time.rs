//! Time: does the clock ever go back, how far from the host's is it, and how much of the CPU does
//! this guest get.

use core::arch::x86_64::{_mm_lfence, _rdtsc};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Setting;
use crate::base::{clock, smp};

static STOP: AtomicBool = AtomicBool::new(false);
/// The latest moment that any CPU saw.
static LATEST: AtomicU64 = AtomicU64::new(0);
/// The largest step back that any CPU saw.
static BACK: AtomicU64 = AtomicU64::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Prints its clock at both ends of a time, for whoever compares it with his own; all CPUs watch
/// that it never goes back, from whichever of them it is looked at.
pub fn clock(cx: &mut Setting) {
    let mut cpus = 1;
    for number in 1..smp::MOST {
        cpus += u32::from(smp::start(number, watch).is_ok());
    }
    let begin = clock::now();
    println!("CLOCK begin {begin}");
    let end = clock::Deadline::after_seconds(cx.seconds);
    while !end.is_over() {
        for _ in 0..1000 {
            look(0);
        }
    }
    println!("CLOCK end {}", clock::now());
    STOP.store(true, Ordering::SeqCst);
    smp::join();
    let back = BACK.load(Ordering::SeqCst);
    let looks = COUNT.load(Ordering::SeqCst);
    let word = if back == 0 { "PASS" } else { "FAIL" };
    println!("{word} {} cpus={cpus} looks={looks} back={back}", cx.name);
}

/// As [`clock`] for the bare time stamp counters: a guest has one, whichever CPU reads it, as
/// pvclock says when it calls itself stable.
pub fn tsc(cx: &mut Setting) {
    let mut cpus = 1;
    for number in 1..smp::MOST {
        cpus += u32::from(smp::start(number, watch_tsc).is_ok());
    }
    let end = clock::Deadline::after_seconds(cx.seconds);
    while !end.is_over() {
        for _ in 0..1000 {
            look_at(counter);
        }
    }
    STOP.store(true, Ordering::SeqCst);
    smp::join();
    let back = BACK.load(Ordering::SeqCst);
    let word = if back == 0 { "PASS" } else { "FAIL" };
    println!("{word} {} cpus={cpus} back={back}", cx.name);
}

fn watch_tsc(_: usize) {
    while !STOP.load(Ordering::SeqCst) {
        look_at(counter);
    }
}

fn counter() -> u64 {
    // SAFETY: reads a counter, not before what is read ahead of it.
    unsafe {
        _mm_lfence();
        _rdtsc()
    }
}

fn watch(number: usize) {
    while !STOP.load(Ordering::SeqCst) {
        look(number);
    }
}

fn look(number: usize) {
    look_at(|| clock::now_of(number));
}

fn look_at(read: impl FnOnce() -> u64) {
    let before = LATEST.load(Ordering::SeqCst);
    let now = read();
    if now < before {
        BACK.fetch_max(before - now, Ordering::SeqCst);
    }
    LATEST.fetch_max(now, Ordering::SeqCst);
    COUNT.fetch_add(1, Ordering::Relaxed);
}

/// Counts rounds of a loop on all its CPUs, and prints the sum every second of the guest's clock.
pub fn share(cx: &mut Setting) {
    for number in 1..smp::MOST {
        let _ = smp::start(number, count);
    }
    let begin = clock::now();
    for second in 1..=cx.seconds {
        while clock::now() < begin + second * 1_000_000_000 {
            count_some();
        }
        println!("SHARE {second} {}", COUNT.load(Ordering::Relaxed));
    }
    STOP.store(true, Ordering::SeqCst);
    println!("PASS {} count={}", cx.name, COUNT.load(Ordering::Relaxed));
}

fn count(_: usize) {
    while !STOP.load(Ordering::SeqCst) {
        count_some();
    }
}

fn count_some() {
    for round in 0..1000u64 {
        core::hint::black_box(round);
    }
    COUNT.fetch_add(1, Ordering::Relaxed);
}
