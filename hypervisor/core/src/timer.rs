//! Per-vcpu timers, kept in one sorted queue per CPU.
//!
//! A timer sits in the queue of the CPU that armed it. That CPU's deadline timer is set for the
//! earliest entry and fires it there; the vcpu may run anywhere by then.
//!
//! Lock order: a vcpu's `timers`, then one queue. Nothing is fired under either.

mod queue;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use oxen_types::CpuId;
use spin::Mutex;

use crate::machine::Machine;
use crate::vcpu::Vcpu;
use queue::{Node, Queue};

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

/// One timer of a vcpu. Its node is here or, while the timer is armed, in a queue: it moves with the lock
/// on the vcpu's timers held.
pub struct Timer {
    id: u64,
    armed: Option<Armed>,
    node: Option<Box<Node>>,
}

/// The timers of one vcpu.
pub type VcpuTimers = [Timer; TimerKind::COUNT];

pub struct Timers {
    queues: Vec<CpuQueue>,
    next_id: AtomicU64,
}

struct CpuQueue {
    timers: Mutex<Queue>,
    /// The earliest deadline, `u64::MAX` for none: each entry to a guest asks for it.
    earliest: AtomicU64,
}

impl CpuQueue {
    const fn new() -> Self {
        Self {
            timers: Mutex::new(Queue::new()),
            earliest: AtomicU64::new(u64::MAX),
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        let mut timers = self.timers.lock();
        let done = change(&mut timers);
        let earliest = timers.first().map_or(u64::MAX, |node| node.key.0);
        self.earliest.store(earliest, Ordering::Release);
        done
    }
}

impl Timers {
    pub fn new(cpus: usize) -> Self {
        Self {
            queues: (0..cpus.max(1)).map(|_| CpuQueue::new()).collect(),
            next_id: AtomicU64::new(0),
        }
    }

    /// The timers of a new vcpu. Allocates: see [`crate::fallible::with_reserve`].
    pub fn new_vcpu(&self) -> VcpuTimers {
        TimerKind::ALL.map(|kind| {
            let id = self.next_id.fetch_add(1, Ordering::Relaxed);
            Timer {
                id,
                armed: None,
                node: Some(Box::new(Node::new(kind, id))),
            }
        })
    }

    fn queue(&self, cpu: CpuId) -> &CpuQueue {
        &self.queues[cpu.index() % self.queues.len()]
    }

    /// Sets one of the vcpu's timers, in place of what it was set to, in the queue of `cpu` (the
    /// caller's). True if it is that queue's earliest now: the caller sets the CPU's timer anew.
    pub fn arm(&self, vcpu: &Arc<Vcpu>, kind: TimerKind, deadline: u64, cpu: CpuId) -> bool {
        let mut timers = vcpu.timers.lock();
        let timer = &mut timers[kind as usize];
        self.unqueue(timer);
        let Some(mut node) = timer.node.take() else {
            return false;
        };
        node.key.0 = deadline;
        node.vcpu = Some(vcpu.clone());
        timer.armed = Some(Armed { deadline, cpu });
        let key = node.key;
        self.queue(cpu).change(|timers| {
            timers.insert(node);
            timers.first().is_some_and(|first| first.key == key)
        })
    }

    pub fn cancel(&self, vcpu: &Vcpu, kind: TimerKind) {
        self.unqueue(&mut vcpu.timers.lock()[kind as usize]);
    }

    pub fn cancel_all(&self, vcpu: &Vcpu) {
        vcpu.timers
            .lock()
            .iter_mut()
            .for_each(|timer| self.unqueue(timer));
    }

    /// Takes a timer out of the queue that it is in.
    fn unqueue(&self, timer: &mut Timer) {
        let Some(Armed { deadline, cpu }) = timer.armed.take() else {
            return;
        };
        let queue = self.queue(cpu);
        timer.node = queue.change(|timers| timers.remove((deadline, timer.id)));
        if let Some(node) = &mut timer.node {
            // Never the last reference: the caller has one.
            node.vcpu = None;
        }
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
            let (vcpu, kind, deadline) = self.due(cpu, now)?;
            let mut timers = vcpu.timers.lock();
            let timer = &mut timers[kind as usize];
            // Armed again or cancelled meanwhile: then it is not there any more.
            if timer.armed == Some(Armed { deadline, cpu }) {
                self.unqueue(timer);
                drop(timers);
                return Some((vcpu, kind));
            }
        }
    }

    /// The first timer of a CPU's queue, if it is due.
    fn due(&self, cpu: CpuId, now: u64) -> Option<(Arc<Vcpu>, TimerKind, u64)> {
        let timers = self.queue(cpu).timers.lock();
        let node = timers.first().filter(|node| node.key.0 <= now)?;
        Some((node.vcpu.clone()?, node.kind, node.key.0))
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
