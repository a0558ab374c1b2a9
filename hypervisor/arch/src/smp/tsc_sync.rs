//! Compares the TSCs of the boot CPU and a new one. Both read theirs in turn under one lock for a
//! while; a reading below the one before it, taken by the other CPU, shows by how much one lags.
//! The new CPU then moves its TSC forward, and both compare again.
#![allow(unsafe_code, reason = "writes the TSC")]

use crate::cpu::msr;
use crate::cpu::regs::rdtsc;
use crate::time::TscCheck;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use oxen_types::CpuId;
use spin::Mutex;

const IA32_TSC: u32 = 0x10;
const ROUNDS: usize = 3;
/// Readings by each side in a round.
const READINGS: usize = 2000;
/// Polls for the other side before it is given up: some seconds.
const PATIENCE: u32 = 2_000_000_000;

struct Warp {
    last: u64,
    last_was_new_cpu: bool,
    /// Most that the new CPU's readings lay below the boot CPU's.
    new_lags: u64,
    boot_lags: u64,
}

static WARP: Mutex<Warp> = Mutex::new(Warp {
    last: 0,
    last_was_new_cpu: false,
    new_lags: 0,
    boot_lags: 0,
});
/// Counts arrivals at the barriers; even at their ends.
static ARRIVED: AtomicU32 = AtomicU32::new(0);
/// The difference that the present pair's last round has left over; [`UNKNOWN`] before that.
static LEFT_OVER: AtomicU64 = AtomicU64::new(UNKNOWN);
const UNKNOWN: u64 = u64::MAX;
/// Of all CPUs.
pub(super) static CHECK: TscCheck = TscCheck::new();

/// On the boot CPU, once the new one is online.
pub(super) fn boot_cpu_side(id: CpuId) {
    run(false);
    let left = LEFT_OVER.swap(UNKNOWN, Ordering::AcqRel);
    CHECK.note(left);
    match left {
        0 => {}
        UNKNOWN => {
            log::warn!("CPU{id}: its TSC could not be compared; guests' clocks are marked unstable")
        }
        left => log::warn!(
            "CPU{id}: its TSC is {left} ticks off the boot CPU's; guests' clocks are marked unstable"
        ),
    }
}

/// On the new CPU, right after it has come online.
pub(super) fn new_cpu_side() {
    run(true);
}

fn run(is_new_cpu: bool) {
    for round in 0..ROUNDS {
        if !is_new_cpu {
            *WARP.lock() = Warp {
                last: 0,
                last_was_new_cpu: false,
                new_lags: 0,
                boot_lags: 0,
            };
        }
        if !barrier() {
            return;
        }
        (0..READINGS).for_each(|_| WARP.lock().read(is_new_cpu));
        if !barrier() {
            return;
        }
        let (new_lags, boot_lags) = {
            let warp = WARP.lock();
            (warp.new_lags, warp.boot_lags)
        };
        if is_new_cpu {
            LEFT_OVER.store(new_lags.max(boot_lags), Ordering::Release);
            let shift = new_lags.wrapping_sub(boot_lags);
            if shift != 0 && round + 1 < ROUNDS {
                // SAFETY: this CPU has armed no timer yet, and nobody has seen its time.
                let _ = unsafe { msr::wrmsr_safe(IA32_TSC, rdtsc().wrapping_add(shift)) };
            }
        }
        // The next round's start must not overtake this one's result.
        if !barrier() || (new_lags == 0 && boot_lags == 0) {
            return;
        }
    }
}

impl Warp {
    fn read(&mut self, is_new_cpu: bool) {
        let now = rdtsc();
        if now < self.last && self.last_was_new_cpu != is_new_cpu {
            let lag = if is_new_cpu {
                &mut self.new_lags
            } else {
                &mut self.boot_lags
            };
            *lag = (*lag).max(self.last - now);
        }
        self.last = now;
        self.last_was_new_cpu = is_new_cpu;
    }
}

/// Both sides wait for each other; false if the other does not come.
fn barrier() -> bool {
    let mine = ARRIVED.fetch_add(1, Ordering::AcqRel);
    let goal = (mine | 1).wrapping_add(1);
    (0..PATIENCE).any(|_| {
        core::hint::spin_loop();
        ARRIVED.load(Ordering::Acquire).wrapping_sub(goal) < u32::MAX / 2
    })
}
