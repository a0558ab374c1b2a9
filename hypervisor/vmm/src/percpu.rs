//! The part of each physical CPU: its own state, and the little that others may change of it.
//!
//! Flush against entry: a CPU stores the domain that it is about to enter before it reads the
//! domain's flush generation; a flush raises the generation before it looks which CPUs are inside.
//! Both are sequentially consistent, so either the CPU sees the new generation, or the flush sees
//! the CPU and waits for it to leave.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use oxen_core::vcpu::Vcpu;
use oxen_mm::expel::Cpus;
use oxen_types::{CpuId, DomainId, MAX_CPUS};
use oxen_virt::PhysCpu;
use spin::Mutex;

use crate::Vmm;
use crate::host::{Host, Time};

/// One CPU's flags and counters. Any CPU may touch them.
pub struct PerCpu {
    /// The CPU must ask the scheduler before it enters a guest again.
    resched: AtomicBool,
    /// The same from this time on; [`NEVER`] if nobody wants it.
    resched_at: AtomicU64,
    /// The time that its timer is set for; [`FIRED`] when that has passed.
    deadline: AtomicU64,
    /// Low 16 bits: 1 + the number of the domain whose guest the CPU is in, 0 for none. Above: how
    /// often it entered.
    guest: AtomicU64,
    idle_ns: AtomicU64,
    /// The CPU was far too late to leave its guest, which is to be stopped.
    stop: AtomicBool,
    /// The vcpu that it runs, for dumps and panics.
    current: Mutex<Option<Arc<Vcpu>>>,
    /// Its virtualization hardware, once that is switched on. Locked by this CPU while it runs a
    /// vcpu.
    pub(crate) phys: Mutex<Option<PhysCpu>>,
}

/// No deadline: time began later.
const FIRED: u64 = 0;

const NEVER: u64 = u64::MAX;

const IN_GUEST: u64 = 0xffff;
const ENTRY: u64 = 0x1_0000;

impl PerCpu {
    /// A CPU that has not begun.
    pub const fn new() -> Self {
        Self {
            resched: AtomicBool::new(false),
            resched_at: AtomicU64::new(NEVER),
            deadline: AtomicU64::new(FIRED),
            guest: AtomicU64::new(0),
            idle_ns: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            current: Mutex::new(None),
            phys: Mutex::new(None),
        }
    }

    /// Places for all CPUs.
    pub const fn array() -> [Self; MAX_CPUS] {
        [const { Self::new() }; MAX_CPUS]
    }

    /// The CPU is to ask the scheduler before it enters a guest again.
    pub fn request_reschedule(&self) {
        self.resched.store(true, Ordering::SeqCst);
    }

    pub(crate) fn must_reschedule(&self) -> bool {
        self.resched.load(Ordering::SeqCst)
    }

    /// The same at a later time. True if nobody has requested as early a time: the CPU has to set
    /// its deadline again.
    pub fn request_reschedule_at(&self, ns: u64) -> bool {
        self.resched_at.fetch_min(ns, Ordering::SeqCst) > ns
    }

    /// When it must ask the scheduler, if not before.
    pub(crate) fn reschedules_at(&self) -> u64 {
        self.resched_at.load(Ordering::SeqCst)
    }

    /// This CPU is about to ask the scheduler.
    pub(crate) fn take_reschedule(&self) {
        self.resched.store(false, Ordering::SeqCst);
        self.resched_at.store(NEVER, Ordering::SeqCst);
    }

    /// The timer's interrupt came (perhaps early: a wait too long for its counter).
    pub fn timer_fired(&self) {
        self.deadline.store(FIRED, Ordering::Relaxed);
    }

    /// Sets this CPU's timer, unless it is set for that moment already.
    pub(crate) fn set_deadline(&self, ns: u64, time: &impl Time) {
        if self.deadline.load(Ordering::Relaxed) != ns {
            self.deadline.store(ns, Ordering::Relaxed);
            time.set_deadline(ns);
        }
    }

    /// Whether this CPU's timer is set for that moment or an earlier one.
    pub(crate) fn wakes_by(&self, ns: u64) -> bool {
        (1..=ns).contains(&self.deadline.load(Ordering::Relaxed))
    }

    /// This CPU is about to use the domain's translations. A flush that raises the generation after
    /// this CPU has read it sees the CPU in the guest.
    pub(crate) fn enter_guest(&self, domain: DomainId) {
        let entries = self.guest.load(Ordering::Relaxed) & !IN_GUEST;
        self.guest.store(
            entries.wrapping_add(ENTRY) | (u64::from(domain.0) + 1),
            Ordering::SeqCst,
        );
    }

    pub(crate) fn leave_guest(&self) {
        let word = self.guest.load(Ordering::Relaxed);
        self.guest.store(word & !IN_GUEST, Ordering::Release);
    }

    /// A number that changes with each entry, if the CPU is in a guest of the domain.
    pub(crate) fn inside(&self, domain: DomainId) -> Option<u64> {
        let word = self.guest.load(Ordering::SeqCst);
        (word & IN_GUEST == u64::from(domain.0) + 1).then_some(word)
    }

    /// Whether the guest that this CPU just left is to be stopped.
    pub(crate) fn take_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed) && self.stop.swap(false, Ordering::SeqCst)
    }

    /// How often it entered a guest, so far.
    pub fn entries(&self) -> u64 {
        self.guest.load(Ordering::Relaxed) / ENTRY
    }

    pub(crate) fn add_idle(&self, ns: u64) {
        self.idle_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Nanoseconds that it was idle since boot.
    pub fn idle_ns(&self) -> u64 {
        self.idle_ns.load(Ordering::Relaxed)
    }

    pub(crate) fn set_current(&self, vcpu: Option<Arc<Vcpu>>) {
        *self.current.lock() = vcpu;
    }

    /// The vcpu that the CPU runs. `None` also while the CPU is changing it.
    pub fn current(&self) -> Option<Arc<Vcpu>> {
        self.current.try_lock().and_then(|vcpu| vcpu.clone())
    }
}

impl Default for PerCpu {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes CPUs leave a domain's guest.
pub(crate) trait Expel: Send + Sync {
    /// Makes each other CPU that is in a guest of `domain` leave it, and waits until each has. A
    /// CPU that is in the hypervisor uses no guest translations, and looks for flushes before it
    /// enters.
    fn expel(&self, domain: DomainId);
}

impl<H: Host> Expel for Vmm<H> {
    fn expel(&self, domain: DomainId) {
        let me = self.host.this_cpu();
        let others = self.host.online();
        let inside = Inside { vmm: self, domain };
        oxen_mm::expel::expel(&inside, others.iter().filter(|cpu| *cpu != me));
    }
}

/// The CPUs as they run guests of one domain.
struct Inside<'a, H: Host> {
    vmm: &'a Vmm<H>,
    domain: DomainId,
}

impl<H: Host> Cpus for Inside<'_, H> {
    fn inside(&self, cpu: CpuId) -> Option<u64> {
        self.vmm.cpu(cpu).inside(self.domain)
    }

    fn kick(&self, cpu: CpuId) {
        self.vmm.host.kick(cpu);
    }

    fn nmi(&self, cpu: CpuId) {
        log::warn!(
            "CPU{cpu} is late to leave a guest of d{}: it gets an NMI",
            self.domain
        );
        self.vmm.host.nmi(cpu);
    }

    fn stop(&self, cpu: CpuId) {
        self.vmm.cpu(cpu).stop.store(true, Ordering::SeqCst);
    }

    fn now_ns(&self) -> u64 {
        self.vmm.host.now_ns()
    }

    fn relax(&self) {
        self.vmm.host.poll();
        core::hint::spin_loop();
    }
}
