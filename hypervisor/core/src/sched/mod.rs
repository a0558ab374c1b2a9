//! Scheduling: which vcpu a CPU runs next, and until when.
//!
//! [`Scheduler`] is the policy, without knowledge of vcpus; [`Sched`] is the lock around it and the
//! check, made under that lock, that what is woken may really run.

mod credit;

use alloc::boxed::Box;
use alloc::sync::Arc;

use oxen_types::{CpuId, CpuMask, Result};
use spin::Mutex;

use crate::vcpu::Vcpu;

/// A scheduler's own name for what it schedules.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct UnitId(pub usize);

/// Per-domain parameters of the credit scheduler (xen/domctl.h, `xen_domctl_sched_credit`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// 1 to 65535; 256 is the default.
    pub weight: u16,
    /// Percent of one CPU that it may use at most; 0 for no limit.
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

/// Where a unit runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Affinity {
    /// The CPUs that it may run on.
    pub hard: CpuMask,
    /// Those among them that it had better run on.
    pub soft: CpuMask,
}

impl Affinity {
    pub const ANY: Self = Self {
        hard: CpuMask::ALL,
        soft: CpuMask::ALL,
    };
}

/// What a CPU does next.
pub struct Decision<T> {
    /// None: nothing is runnable, it idles.
    pub next: Option<T>,
    /// When it must ask again at the latest, in ns.
    pub until: u64,
    /// Another CPU that should look: it idles, and something that waits may run there.
    pub tell: Option<CpuId>,
}

/// A CPU that should ask again because something woke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    pub cpu: CpuId,
    /// When; what it runs may not be interrupted before.
    pub at: u64,
}

/// A scheduling policy over units that carry a `T`. Times are ns since boot. All calls are made
/// under one lock.
pub trait Scheduler<T: Clone>: Send {
    fn name(&self) -> &'static str;
    /// XEN_SCHEDULER_* of the public headers.
    fn abi_id(&self) -> u32;
    /// -ENOMEM if there is no memory for one more.
    fn add(&mut self, payload: T, share: Share) -> Result<UnitId>;
    fn remove(&mut self, unit: UnitId);
    /// What runs is not interrupted for something that wakes before it has run so long, in ns.
    fn rate_limit(&self) -> u64;
    /// It became runnable. The CPU that should look, if one should: idle, or running less urgent work.
    fn wake(&mut self, unit: UnitId, now: u64) -> Option<Look>;
    /// It is no longer runnable. It may still run on a CPU, which will ask soon.
    fn sleep(&mut self, unit: UnitId, now: u64);
    /// The unit that runs on `cpu` gives way to others of its kind.
    fn give_way(&mut self, cpu: CpuId, now: u64);
    /// What `cpu` runs from now on; charges what it ran until now. A unit never runs on two CPUs.
    fn pick(&mut self, cpu: CpuId, now: u64) -> Decision<T>;
    fn set_share(&mut self, unit: UnitId, share: Share);
    fn share(&self, unit: UnitId) -> Share;
    /// From now on it runs on `affinity.hard` only. The CPU that should look, if one should: it runs the
    /// unit and may not, or it idles and the unit waits.
    fn set_affinity(&mut self, unit: UnitId, affinity: Affinity, now: u64) -> Option<CpuId>;
    fn affinity(&self, unit: UnitId) -> Affinity;
    /// For the `r` debug key.
    fn dump(&self, out: &mut dyn core::fmt::Write);
}

/// The machine's scheduler.
pub struct Sched {
    policy: Mutex<Box<dyn Scheduler<Arc<Vcpu>>>>,
}

impl Sched {
    pub fn new(cpus: usize) -> Self {
        Self {
            policy: Mutex::new(Box::new(credit::Credit::new(cpus))),
        }
    }

    pub fn add(&self, vcpu: Arc<Vcpu>) -> Result<UnitId> {
        self.policy.lock().add(vcpu, Share::default())
    }

    pub fn remove(&self, vcpu: &Vcpu) {
        self.policy.lock().remove(vcpu.unit());
    }

    /// The CPU that should look, if one should.
    pub fn wake(&self, vcpu: &Vcpu, now: u64) -> Option<Look> {
        let mut policy = self.policy.lock();
        if vcpu.is_runnable() {
            policy.wake(vcpu.unit(), now)
        } else {
            None
        }
    }

    pub fn sleep(&self, vcpu: &Vcpu, now: u64) {
        let mut policy = self.policy.lock();
        if !vcpu.is_runnable() {
            policy.sleep(vcpu.unit(), now);
        }
    }

    pub fn give_way(&self, cpu: CpuId, now: u64) {
        self.policy.lock().give_way(cpu, now);
    }

    /// What `cpu` runs from now on. Its processor state counts as held by that CPU when this returns:
    /// who has put the vcpu to sleep, and then finds no CPU that holds it, may rely on that.
    pub fn pick(&self, cpu: CpuId, now: u64) -> Decision<Arc<Vcpu>> {
        let mut policy = self.policy.lock();
        let decision = policy.pick(cpu, now);
        if let Some(vcpu) = &decision.next {
            vcpu.set_cpu(Some(cpu));
        }
        decision
    }

    /// Runs `ask` on the policy, for parameters and dumps.
    pub fn with<R>(&self, ask: impl FnOnce(&mut dyn Scheduler<Arc<Vcpu>>) -> R) -> R {
        ask(&mut **self.policy.lock())
    }
}

#[cfg(test)]
mod tests;
