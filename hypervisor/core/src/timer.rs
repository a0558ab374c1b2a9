//! Per-vcpu timers, kept in one sorted queue per CPU.
//!
//! A timer sits in the queue of the CPU that armed it. That CPU's deadline timer is set for the
//! earliest entry and fires it there; the vcpu may run anywhere by then.
//!
//! Lock order: a vcpu's `timers`, then one queue. Nothing is fired under either.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use oxen_types::CpuId;
use spin::Mutex;

use crate::machine::Machine;
use crate::vcpu::Vcpu;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum TimerKind {
    /// VCPUOP_set_singleshot_timer and set_timer_op: VIRQ_TIMER.
    SingleShot,
    /// VCPUOP_set_periodic_timer: VIRQ_TIMER.
    Periodic,
    /// SCHEDOP_poll's timeout.
    Poll,
    /// The local APIC's timer.
    Lapic,
    /// The two timers of SCHEDOP_watchdog. They belong to the domain: its vcpu 0 keeps them.
    FirstWatchdog,
    SecondWatchdog,
}

impl TimerKind {
    pub const ALL: [Self; 6] = [
        Self::SingleShot,
        Self::Periodic,
        Self::Poll,
        Self::Lapic,
        Self::FirstWatchdog,
        Self::SecondWatchdog,
    ];
    pub const COUNT: usize = Self::ALL.len();
}

/// Where a timer is queued, and for when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Armed {
    pub deadline: u64,
    pub cpu: CpuId,
}

struct Entry {
    deadline: u64,
    kind: TimerKind,
    vcpu: Arc<Vcpu>,
}

pub struct Timers {
    queues: Vec<Queue>,
}

struct Queue {
    /// Latest deadline first, so that the earliest pops off the end.
    entries: Mutex<Vec<Entry>>,
    /// The earliest deadline, `u64::MAX` for none: each entry to a guest asks for it.
    earliest: AtomicU64,
}

impl Queue {
    const fn new() -> Self {
        Self {
            entries: Mutex::new(Vec::new()),
            earliest: AtomicU64::new(u64::MAX),
        }
    }

    /// Changes the entries.
    fn change<T>(&self, change: impl FnOnce(&mut Vec<Entry>) -> T) -> T {
        let mut entries = self.entries.lock();
        let done = change(&mut entries);
        let earliest = entries.last().map_or(u64::MAX, |entry| entry.deadline);
        self.earliest.store(earliest, Ordering::Release);
        done
    }
}

impl Timers {
    pub fn new(cpus: usize) -> Self {
        Self {
            queues: (0..cpus.max(1)).map(|_| Queue::new()).collect(),
        }
    }

    fn queue(&self, cpu: CpuId) -> &Queue {
        &self.queues[cpu.index() % self.queues.len()]
    }

    /// Sets one of the vcpu's timers, in place of what it was set to, in the queue of `cpu` (the
    /// caller's). True if it is that queue's earliest now: the caller sets the CPU's timer anew.
    pub fn arm(&self, vcpu: &Arc<Vcpu>, kind: TimerKind, deadline: u64, cpu: CpuId) -> bool {
        let mut timers = vcpu.timers.lock();
        self.unqueue(vcpu, kind, timers[kind as usize].take());
        timers[kind as usize] = Some(Armed { deadline, cpu });
        self.queue(cpu).change(|queue| {
            let at = queue.partition_point(|entry| entry.deadline > deadline);
            queue.insert(
                at,
                Entry {
                    deadline,
                    kind,
                    vcpu: vcpu.clone(),
                },
            );
            at + 1 == queue.len()
        })
    }

    pub fn cancel(&self, vcpu: &Vcpu, kind: TimerKind) {
        let mut timers = vcpu.timers.lock();
        self.unqueue(vcpu, kind, timers[kind as usize].take());
    }

    pub fn cancel_all(&self, vcpu: &Vcpu) {
        let mut timers = vcpu.timers.lock();
        for kind in TimerKind::ALL {
            self.unqueue(vcpu, kind, timers[kind as usize].take());
        }
    }

    fn unqueue(&self, vcpu: &Vcpu, kind: TimerKind, armed: Option<Armed>) {
        let Some(armed) = armed else { return };
        let is_it =
            |entry: &Entry| entry.kind == kind && core::ptr::eq(Arc::as_ptr(&entry.vcpu), vcpu);
        self.queue(armed.cpu).change(|queue| {
            let start = queue.partition_point(|entry| entry.deadline > armed.deadline);
            let found = queue[start..]
                .iter()
                .take_while(|e| e.deadline == armed.deadline)
                .position(is_it);
            // Dropped after the lock, though never the last reference: the caller has one.
            found.map(|at| queue.remove(start + at))
        });
    }

    /// The earliest deadline in a CPU's queue.
    pub fn next(&self, cpu: CpuId) -> Option<u64> {
        match self.queue(cpu).earliest.load(Ordering::Acquire) {
            u64::MAX => None,
            earliest => Some(earliest),
        }
    }

    /// Takes one timer that is due at `now` out of a CPU's queue.
    pub fn pop_due(&self, cpu: CpuId, now: u64) -> Option<(Arc<Vcpu>, TimerKind)> {
        loop {
            let due = |entry: &mut Entry| entry.deadline <= now;
            let entry = self.queue(cpu).change(|queue| queue.pop_if(due))?;
            let mut timers = entry.vcpu.timers.lock();
            // Armed again or cancelled meanwhile: then this entry is stale.
            let still = timers[entry.kind as usize];
            if still
                == Some(Armed {
                    deadline: entry.deadline,
                    cpu,
                })
            {
                timers[entry.kind as usize] = None;
                drop(timers);
                return Some((entry.vcpu, entry.kind));
            }
        }
    }
}

/// Timers that one pass fires: what is due beyond that waits until this CPU has taken its interrupts.
const MOST_FIRED: usize = 16;

impl Machine {
    /// Fires what is due in this CPU's timer queue, up to a bound. True if more is due.
    pub fn fire_timers(&self, cpu: CpuId) -> bool {
        let now = self.now();
        for _ in 0..MOST_FIRED {
            let Some((vcpu, kind)) = self.timers.pop_due(cpu, now) else {
                return false;
            };
            fire(&vcpu, kind);
        }
        self.timers.next(cpu).is_some_and(|next| next <= now)
    }
}

fn fire(vcpu: &Arc<Vcpu>, kind: TimerKind) {
    match kind {
        TimerKind::SingleShot => vcpu.raise_timer(),
        TimerKind::Periodic => vcpu.tick(),
        TimerKind::Poll => vcpu.poll_timed_out(),
        // Its APIC looks at the clock before the next entry.
        TimerKind::Lapic => vcpu.kick(),
        TimerKind::FirstWatchdog | TimerKind::SecondWatchdog => {
            vcpu.domain.shutdown(guest_pv_abi::SHUTDOWN_WATCHDOG);
        }
    }
}

#[cfg(test)]
mod tests;
