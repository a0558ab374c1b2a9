//! The cost of the hypervisor's services, seen from a guest: the same program on Oxen and on Xen.
//!
//! The unit is the time stamp counter. Under QEMU's `-icount shift=0` that is one per instruction,
//! so a figure is the exact number of instructions that the machine executed for the operation: the
//! guest's own few, which are the same on both hypervisors, and the hypervisor's. Each figure comes
//! from several batches; interrupts and other domains disturb some of them, so the smallest and the
//! median are told. A line is `BENCH name min=N median=N max=N`, per operation, in hundredths.
//!
//! Without `-icount` the counter tells the time, and `timed=1` says so. Then batches are short and
//! many: who else runs on the emulator's host is in some of them as a whole, and not in all a
//! little.

mod calls;
mod exits;
mod interrupts;
mod ipi;
mod memory;
mod pair;

use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::base::clock;
use crate::tests::Setting;

pub use ipi::ipi;
pub use pair::{ping, pong};

/// Batches that count; one more goes before them.
const BATCHES: usize = 9;
/// The same of time, and the part of the rounds that each has.
const TIMED_BATCHES: usize = 301;
const TIMED_PART: u64 = 16;

/// The counter tells the time.
static TIMED: AtomicBool = AtomicBool::new(false);

type Bench = (&'static str, fn(&'static str));

/// Benchmarks that one guest can run alone.
const ALONE: &[&[Bench]] = &[
    calls::BENCHES,
    exits::BENCHES,
    memory::BENCHES,
    interrupts::BENCHES,
];

/// All that one guest can measure alone, or the one named by `only=`.
pub fn alone(cx: &mut Setting) {
    prepare(cx);
    for &(name, bench) in ALONE.iter().copied().flatten() {
        if cx.only.is_none_or(|only| only == name) {
            bench(name);
        }
    }
    println!("PASS {}", cx.name);
}

/// To be called before anything is measured.
fn prepare(cx: &Setting) {
    TIMED.store(cx.timed, Ordering::Relaxed);
}

fn is_timed() -> bool {
    TIMED.load(Ordering::Relaxed)
}

/// Of a batch.
fn rounds(counted: u64) -> u64 {
    if is_timed() {
        counted / TIMED_PART
    } else {
        counted
    }
}

pub fn now() -> u64 {
    // SAFETY: reads a counter.
    unsafe { _rdtsc() }
}

/// Counts an operation, repeated `rounds` times in each batch.
fn measure(name: &str, counted: u64, mut operation: impl FnMut()) {
    let rounds = rounds(counted);
    sample(name, rounds, || {
        let began = now();
        for _ in 0..rounds {
            operation();
        }
        now() - began
    });
}

/// Tells what `batch`, which returns the ticks of `operations`, took for each of them.
fn sample(name: &str, operations: u64, mut batch: impl FnMut() -> u64) {
    // Until dom0 has taken the line before off the console.
    clock::sleep_ms(50);
    batch();
    let mut ticks = [0; TIMED_BATCHES];
    let batches = if is_timed() { TIMED_BATCHES } else { BATCHES };
    let ticks = &mut ticks[..batches];
    ticks.fill_with(batch);
    ticks.sort_unstable();
    let each = |ticks: u64| ticks * 100 / operations;
    println!(
        "BENCH {name} min={} median={} max={}",
        each(ticks[0]),
        each(ticks[batches / 2]),
        each(ticks[batches - 1])
    );
}
