//! A virtual CPU as the scheduler, the event channels and the hypercalls see it.
//!
//! The fields are private to this room; each file of it holds one group and its methods: `upcall`
//! (vcpu_info and event upcalls), `areas` (memory of the guest's that is written for it), `timers`
//! and `periodic`, `startup`, and `progress` (of calls that are executed again).
//!
//! Lock order: docs/lock-order.md.

mod arch;
mod areas;
mod periodic;
mod progress;
mod startup;
mod timers;
mod upcall;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use oxen_types::{CpuId, Result, VcpuId};
use spin::{Mutex, Once};

use crate::clock::TimePage;
use crate::domain::Domain;
use crate::fallible;
use crate::machine::Machine;
use crate::runstate::Runstate;
use crate::sched::{Decision, Resched, UnitId};
use crate::timer::TimerSet;
use periodic::Periodic;
use upcall::Upcall;

pub use arch::{DomainArch, PostedStart, VcpuArch};
pub use progress::{CallName, DomainList, Progress};
pub use upcall::{InfoArea, Poll, info};

/// Reasons for which a vcpu may not run. The vcpu is runnable when none holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Hold {
    /// The vcpu waits for an event.
    Blocked = 1 << 0,
    /// The vcpu was never started, or was stopped (VCPUOP_down, INIT).
    Down = 1 << 1,
    /// The toolstack paused this vcpu.
    Paused = 1 << 2,
    /// The toolstack paused the domain.
    DomainPaused = 1 << 3,
    /// The domain has shut down.
    ShutDown = 1 << 4,
    /// The domain's resources are being taken back.
    Dying = 1 << 5,
}

const NO_CPU: u32 = u32::MAX;

/// One virtual CPU of a domain.
pub struct Vcpu {
    /// The vcpu's number within its domain.
    pub id: VcpuId,
    /// The domain that the vcpu belongs to.
    pub domain: Arc<Domain>,
    /// The processor state and the local APIC.
    pub arch: Box<dyn VcpuArch>,
    unit: Once<UnitId>,
    /// The bits of [`Hold`] that stand.
    holds: AtomicU32,
    /// The CPU that holds the processor state, or NO_CPU.
    loaded_on: AtomicU32,
    /// See `startup`.
    initialised: AtomicBool,
    upcall: Upcall,
    runstate: Mutex<Runstate>,
    time: Mutex<TimePage>,
    progress: Mutex<Option<Progress>>,
    timers: Mutex<TimerSet<Arc<Vcpu>>>,
    periodic: Mutex<Periodic>,
}

impl Vcpu {
    /// Makes a vcpu that is down, and adds it to the scheduler.
    ///
    /// # Errors
    /// `NoMem` if the hypervisor has no memory for it.
    pub fn new(domain: &Arc<Domain>, id: VcpuId, arch: Box<dyn VcpuArch>) -> Result<Arc<Self>> {
        let machine = domain.machine;
        let now = machine.now();
        let make = || {
            Arc::new(Self {
                id,
                domain: domain.clone(),
                arch,
                unit: Once::new(),
                holds: AtomicU32::new(Hold::Down as u32),
                loaded_on: AtomicU32::new(NO_CPU),
                initialised: AtomicBool::new(false),
                upcall: Upcall::new(domain, id),
                runstate: Mutex::new(Runstate::new(now)),
                time: Mutex::new(TimePage::default()),
                progress: Mutex::new(None),
                timers: Mutex::new(machine.timers.new_set()),
                periodic: Mutex::default(),
            })
        };
        let vcpu = fallible::with_reserve(machine.frames, make)?;
        let unit = machine.sched.add(vcpu.clone())?;
        vcpu.unit.call_once(|| unit);
        vcpu.update_time();
        Ok(vcpu)
    }

    /// The scheduler's name for the vcpu. Every vcpu that others can see has one.
    pub fn unit(&self) -> UnitId {
        self.unit.get().copied().unwrap_or_default()
    }

    /// Whether no hold stands.
    pub fn is_runnable(&self) -> bool {
        self.holds.load(Ordering::SeqCst) == 0
    }

    /// All holds that stand, as bits, for dumps.
    pub fn holds(&self) -> u32 {
        self.holds.load(Ordering::SeqCst)
    }

    /// Whether one hold stands.
    pub fn is_held(&self, by: Hold) -> bool {
        self.holds.load(Ordering::SeqCst) & by as u32 != 0
    }

    /// Whether the vcpu waits for an event, and for nothing else.
    pub fn only_waits(&self) -> bool {
        self.holds() == Hold::Blocked as u32
    }

    /// Adds a hold. When this returns, no CPU picks the vcpu any more, and a CPU that runs it is on
    /// its way out of the guest: [`Vcpu::is_quiet`] says when the vcpu stands still.
    pub fn hold(&self, by: Hold) {
        let first = self.holds.fetch_or(by as u32, Ordering::SeqCst) == 0;
        // Whoever added an earlier hold may not have called the scheduler yet, and this caller
        // relies on that call. A vcpu that blocks itself does not.
        if first || by != Hold::Blocked {
            let sched = &self.domain.machine.sched;
            sched.sleep(self.unit(), || self.is_runnable());
        }
        if first {
            self.leave_guest();
        }
    }

    /// The first half of [`Vcpu::hold`]: the scheduler does not know of the hold yet.
    #[cfg(test)]
    pub(crate) fn hold_without_scheduler(&self, by: Hold) {
        self.holds.fetch_or(by as u32, Ordering::SeqCst);
    }

    /// Drops a hold. Wakes the vcpu if that was the last one.
    pub fn release(&self, by: Hold) {
        let before = self.holds.fetch_and(!(by as u32), Ordering::SeqCst);
        if before == by as u32 {
            let machine = self.domain.machine;
            let now = machine.now();
            match machine.sched.wake(self.unit(), now, || self.is_runnable()) {
                Some(Resched { cpu, at }) if at <= now => machine.platform.reschedule_on(cpu),
                Some(Resched { cpu, at }) => machine.platform.reschedule_at(cpu, at),
                None => {}
            }
        }
    }

    /// An event waits for the vcpu: wakes it if it is blocked; if it runs on another CPU, has that
    /// CPU leave the guest and look.
    pub fn kick(&self) {
        if self.is_held(Hold::Blocked) {
            self.release(Hold::Blocked);
        }
        self.leave_guest();
    }

    /// As [`Vcpu::kick`], for a vector that was posted to the local APIC: the vcpu stays in the
    /// guest if the hardware delivers posted vectors without an exit.
    pub fn kick_posted(&self) {
        if self.is_held(Hold::Blocked) {
            self.release(Hold::Blocked);
        }
        if let Some(cpu) = self.runs_elsewhere()
            && !self.arch.notify(cpu)
        {
            self.domain.machine.platform.kick(cpu);
        }
    }

    /// If the vcpu runs on another CPU, has that CPU leave the guest and enter it again.
    fn leave_guest(&self) {
        if let Some(cpu) = self.runs_elsewhere() {
            self.domain.machine.platform.kick(cpu);
        }
    }

    fn runs_elsewhere(&self) -> Option<CpuId> {
        let this = self.domain.machine.platform.this_cpu();
        self.cpu().filter(|cpu| *cpu != this)
    }

    /// The CPU that holds the processor state, if one does.
    pub fn cpu(&self) -> Option<CpuId> {
        match self.loaded_on.load(Ordering::SeqCst) {
            NO_CPU => None,
            cpu => Some(CpuId(cpu)),
        }
    }

    /// Notes that a CPU takes the processor state, or that its CPU has let go of it.
    pub fn set_cpu(&self, cpu: Option<CpuId>) {
        self.loaded_on
            .store(cpu.map_or(NO_CPU, |cpu| cpu.0), Ordering::SeqCst);
    }

    /// Whether no CPU holds the processor state.
    pub fn is_quiet(&self) -> bool {
        self.cpu().is_none()
    }

    /// Blocks the vcpu until the next kick, unless an event waits already.
    pub fn block(&self) {
        self.hold(Hold::Blocked);
        if self.has_event() {
            self.release(Hold::Blocked);
        }
    }

    /// Takes the vcpu off the scheduler and the timers; the last step before it is dropped.
    pub fn retire(&self) {
        self.cancel_all_timers();
        self.domain.machine.sched.remove(self.unit());
    }
}

impl Machine {
    /// Decides what `cpu` runs from now on. The vcpu's processor state counts as held by that CPU
    /// when this returns: a caller that has put the vcpu to sleep, and then finds no CPU that holds
    /// it, may rely on that.
    pub fn pick_vcpu(&self, cpu: CpuId, now: u64) -> Decision<Arc<Vcpu>> {
        self.sched.pick(cpu, now, |vcpu| vcpu.set_cpu(Some(cpu)))
    }
}

#[cfg(test)]
mod tests;
