//! What the hypervisor's services cost, seen from a guest: the same program on Oxen and on Xen.
//!
//! The unit is the time stamp counter. Under QEMU's `-icount shift=0` that is one per instruction,
//! so a figure is the exact number of instructions that the machine executed for the operation: the
//! guest's own few, which are the same on both hypervisors, and the hypervisor's. Each figure comes
//! from several batches; interrupts and other domains disturb some of them, so the smallest and the
//! median are told. A line is `BENCH name min=N median=N max=N`, per operation, in hundredths.

mod calls;
mod exits;
mod interrupts;
mod ipi;
mod memory;
mod pair;

use core::arch::x86_64::_rdtsc;

use crate::base::clock;
use crate::tests::Setting;

pub use ipi::ipi;
pub use pair::{ping, pong};

/// Batches that count; one more goes before them.
const BATCHES: usize = 9;

type Bench = (&'static str, fn(&'static str));

/// What one guest can measure alone.
const ALONE: &[&[Bench]] = &[
    calls::BENCHES,
    exits::BENCHES,
    memory::BENCHES,
    interrupts::BENCHES,
];

/// All that one guest can measure alone, or the one named by `only=`.
pub fn alone(cx: &mut Setting) {
    for &(name, bench) in ALONE.iter().copied().flatten() {
        if cx.only.is_none_or(|only| only == name) {
            bench(name);
        }
    }
    println!("PASS {}", cx.name);
}

pub fn now() -> u64 {
    // SAFETY: reads a counter.
    unsafe { _rdtsc() }
}

/// Counts an operation, repeated `rounds` times in each batch.
fn measure(name: &str, rounds: u64, mut operation: impl FnMut()) {
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
    let mut ticks: [u64; BATCHES] = core::array::from_fn(|_| batch());
    ticks.sort_unstable();
    let each = |ticks: u64| ticks * 100 / operations;
    println!(
        "BENCH {name} min={} median={} max={}",
        each(ticks[0]),
        each(ticks[BATCHES / 2]),
        each(ticks[BATCHES - 1])
    );
}
