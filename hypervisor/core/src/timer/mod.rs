//! Timers: a set for each owner, kept in one sorted queue per CPU.
//!
//! A timer stands in the queue of the CPU that armed it. That CPU's deadline timer is set for the
//! earliest entry and fires it there; the owner, a vcpu, may run anywhere by then.
//!
//! Lock order: an owner's timers, then one queue. Nothing is fired under either.

mod queue;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use oxen_types::CpuId;
use spin::Mutex;

use queue::{Node, Queue};

/// The purpose of a timer. An owner has one of each kind.
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
    /// The two timers of SCHEDOP_watchdog. They belong to the domain; its vcpu 0 owns them here.
    FirstWatchdog,
    /// See [`TimerKind::FirstWatchdog`].
    SecondWatchdog,
}

impl TimerKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::SingleShot,
        Self::Periodic,
        Self::Poll,
        Self::Lapic,
        Self::FirstWatchdog,
        Self::SecondWatchdog,
    ];
    /// How many kinds there are.
    pub const COUNT: usize = Self::ALL.len();
}

/// Where a timer is queued, and for when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Armed {
    deadline: u64,
    cpu: CpuId,
}

/// One timer of an owner. Its node is here or, while the timer is armed, in a queue: the node moves
/// with the lock on the owner's timers held.
pub struct Timer<T> {
    id: u64,
    armed: Option<Armed>,
    node: Option<Box<Node<T>>>,
}

/// The timers of one owner, by [`TimerKind`].
pub type TimerSet<T> = [Timer<T>; TimerKind::COUNT];

/// The timer queues of all CPUs.
pub struct Timers<T> {
    queues: Vec<CpuQueue<T>>,
    next_id: AtomicU64,
}

struct CpuQueue<T> {
    timers: Mutex<Queue<T>>,
    /// The earliest deadline, `u64::MAX` for none: read before each entry to a guest.
    earliest: AtomicU64,
}

impl<T> CpuQueue<T> {
    const fn new() -> Self {
        Self {
            timers: Mutex::new(Queue::new()),
            earliest: AtomicU64::new(u64::MAX),
        }
    }

    fn change<R>(&self, change: impl FnOnce(&mut Queue<T>) -> R) -> R {
        let mut timers = self.timers.lock();
        let done = change(&mut timers);
        let earliest = timers.first().map_or(u64::MAX, |node| node.key.0);
        self.earliest.store(earliest, Ordering::Release);
        done
    }
}

impl<T: Clone> Timers<T> {
    /// Empty queues for so many CPUs. Allocates: only while the machine boots.
    pub fn new(cpus: usize) -> Self {
        Self {
            queues: (0..cpus.max(1)).map(|_| CpuQueue::new()).collect(),
            next_id: AtomicU64::new(0),
        }
    }

    /// The timers of a new owner. Allocates: see [`crate::fallible::with_reserve`].
    pub fn new_set(&self) -> TimerSet<T> {
        TimerKind::ALL.map(|kind| {
            let id = self.next_id.fetch_add(1, Ordering::Relaxed);
            Timer {
                id,
                armed: None,
                node: Some(Box::new(Node::new(kind, id))),
            }
        })
    }

    fn queue(&self, cpu: CpuId) -> &CpuQueue<T> {
        &self.queues[cpu.index() % self.queues.len()]
    }

    /// Sets one of `owner`'s timers, in place of what it was set to, in the queue of `cpu`. Returns
    /// whether the timer is that queue's earliest now: then the caller sets the CPU's deadline
    /// anew.
    pub fn arm(&self, timer: &mut Timer<T>, owner: &T, deadline: u64, cpu: CpuId) -> bool {
        self.cancel(timer);
        let Some(mut node) = timer.node.take() else {
            return false;
        };
        node.key.0 = deadline;
        node.owner = Some(owner.clone());
        timer.armed = Some(Armed { deadline, cpu });
        let key = node.key;
        self.queue(cpu).change(|timers| {
            timers.insert(node);
            timers.first().is_some_and(|first| first.key == key)
        })
    }

    /// Takes a timer out of the queue that it stands in, if it is armed.
    pub fn cancel(&self, timer: &mut Timer<T>) {
        let Some(Armed { deadline, cpu }) = timer.armed.take() else {
            return;
        };
        let queue = self.queue(cpu);
        timer.node = queue.change(|timers| timers.remove((deadline, timer.id)));
        if let Some(node) = &mut timer.node {
            // Never the last reference: the caller has one.
            node.owner = None;
        }
    }

    /// The earliest deadline in a CPU's queue.
    pub fn next(&self, cpu: CpuId) -> Option<u64> {
        match self.queue(cpu).earliest.load(Ordering::Acquire) {
            u64::MAX => None,
            earliest => Some(earliest),
        }
    }

    /// Takes one timer that is due at `now` out of a CPU's queue. `set_of` finds an owner's timers.
    pub fn pop_due(
        &self,
        cpu: CpuId,
        now: u64,
        set_of: impl Fn(&T) -> &Mutex<TimerSet<T>>,
    ) -> Option<(T, TimerKind)> {
        loop {
            let (owner, kind, deadline) = self.due(cpu, now)?;
            let mut set = set_of(&owner).lock();
            let timer = &mut set[kind as usize];
            // Armed again or cancelled meanwhile: then it is not there any more.
            if timer.armed == Some(Armed { deadline, cpu }) {
                self.cancel(timer);
                drop(set);
                return Some((owner, kind));
            }
        }
    }

    /// The first timer of a CPU's queue, if it is due.
    fn due(&self, cpu: CpuId, now: u64) -> Option<(T, TimerKind, u64)> {
        let timers = self.queue(cpu).timers.lock();
        let node = timers.first().filter(|node| node.key.0 <= now)?;
        Some((node.owner.clone()?, node.kind, node.key.0))
    }
}

#[cfg(test)]
mod tests;
