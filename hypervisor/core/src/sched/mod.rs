//! Scheduling: which unit a CPU runs next, and until when.
//!
//! The scheduler knows units and CPUs, and no vcpus: a unit carries whatever its owner gave, which
//! [`Scheduler::pick`] returns. [`Scheduler`] is the lock around the policy. Whether a unit may
//! really run is checked under that lock, by a closure of the caller's, so that a wake that races
//! with a pause cannot make a paused vcpu run. [`Policy`] names the one policy that there is.

mod credit;

use oxen_types::{CpuId, CpuMask, Result};
use spin::Mutex;

/// The policy behind the scheduler. A second one would make this an enum of both.
pub type Policy<T> = credit::Credit<T>;

/// The scheduler's name for a unit, which is what it schedules: a vcpu.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct UnitId(pub usize);

/// Per-domain parameters of the credit scheduler (xen/domctl.h, `xen_domctl_sched_credit`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// 1 to 65535; 256 is the default.
    pub weight: u16,
    /// Percent of one CPU that the unit may use at most; 0 for no limit.
    pub cap: u16,
}

impl Default for Share {
    fn default() -> Self {
        Self {
            weight: 256,
            cap: 0,
        }
    }
}

/// The CPUs on which a unit runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Affinity {
    /// The CPUs that the unit may run on.
    pub hard: CpuMask,
    /// The CPUs among `hard` that the unit prefers.
    pub soft: CpuMask,
}

impl Affinity {
    /// Every CPU, none preferred.
    pub const ANY: Self = Self {
        hard: CpuMask::ALL,
        soft: CpuMask::ALL,
    };
}

/// The scheduler's decision on what a CPU does next.
pub struct Decision<T> {
    /// The unit that it runs; `None` if nothing is runnable: it idles.
    pub next: Option<T>,
    /// When the CPU must call the scheduler again at the latest, in ns.
    pub until: u64,
    /// Another CPU that should reschedule: it idles, and a unit that waits may run there.
    pub resched: Option<CpuId>,
}

/// A CPU that should reschedule because a unit woke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resched {
    /// The CPU.
    pub cpu: CpuId,
    /// When, in ns; what the CPU runs may not be interrupted before.
    pub at: u64,
}

/// The machine's scheduler over units that carry a `T`. Times are ns since boot.
pub struct Scheduler<T> {
    policy: Mutex<Policy<T>>,
}

impl<T: Clone> Scheduler<T> {
    /// A scheduler for so many CPUs. Allocates: only while the machine boots.
    pub fn new(cpus: usize) -> Self {
        Self {
            policy: Mutex::new(Policy::new(cpus)),
        }
    }

    /// Adds a unit of default share that sleeps, and may run anywhere.
    ///
    /// # Errors
    /// `NoMem` if there is no memory for one more unit.
    pub fn add(&self, payload: T) -> Result<UnitId> {
        self.policy.lock().add(payload, Share::default())
    }

    /// Forgets a unit.
    pub fn remove(&self, unit: UnitId) {
        self.policy.lock().remove(unit);
    }

    /// Makes a unit runnable if `may_run` agrees under the scheduler's lock. Returns the CPU that
    /// should reschedule, if one should.
    pub fn wake(&self, unit: UnitId, now: u64, may_run: impl FnOnce() -> bool) -> Option<Resched> {
        let mut policy = self.policy.lock();
        if may_run() {
            policy.wake(unit, now)
        } else {
            None
        }
    }

    /// Takes a unit off the run queue unless `may_run` says under the scheduler's lock that it is
    /// runnable again. The unit may still run on a CPU, which reschedules soon.
    pub fn sleep(&self, unit: UnitId, may_run: impl FnOnce() -> bool) {
        let mut policy = self.policy.lock();
        if !may_run() {
            policy.sleep(unit);
        }
    }

    /// The unit that runs on `cpu` gives way to others of its kind.
    pub fn give_way(&self, cpu: CpuId, now: u64) {
        self.policy.lock().give_way(cpu, now);
    }

    /// Decides what `cpu` runs from now on, and charges what ran there until now. `taken` is called
    /// for the unit under the scheduler's lock. A unit never runs on two CPUs.
    pub fn pick(&self, cpu: CpuId, now: u64, taken: impl FnOnce(&T)) -> Decision<T> {
        let mut policy = self.policy.lock();
        let decision = policy.pick(cpu, now);
        if let Some(unit) = &decision.next {
            taken(unit);
        }
        decision
    }

    /// Runs `act` on the policy under the lock, for parameters and dumps.
    pub fn with<R>(&self, act: impl FnOnce(&mut Policy<T>) -> R) -> R {
        act(&mut self.policy.lock())
    }
}
