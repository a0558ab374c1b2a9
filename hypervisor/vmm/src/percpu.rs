//! What each physical CPU keeps for itself, and the little that others may change of it.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use alloc::sync::Arc;
use oxen_arch::{ipi, smp, time};
use oxen_core::vcpu::Vcpu;
use oxen_mm::expel::Cpus;
use oxen_types::{CpuId, DomainId, MAX_CPUS};

/// Flags and counters of one CPU that any CPU may touch.
pub struct Shared {
    /// It must ask the scheduler before it enters a guest again.
    resched: AtomicBool,
    /// The same from this time on; [`NEVER`] if nobody wants it.
    resched_at: AtomicU64,
    /// What its timer is set for; [`FIRED`] when that has passed.
    deadline: AtomicU64,
    /// Low 16 bits: 1 + the number of the domain whose guest it is in, 0 for none. Above: how often it entered.
    guest: AtomicU64,
    idle_ns: AtomicU64,
    /// It was far too late to leave its guest, which is to be stopped.
    stop: AtomicBool,
}

static SHARED: [Shared; MAX_CPUS] = [const {
    Shared {
        resched: AtomicBool::new(false),
        resched_at: AtomicU64::new(NEVER),
        deadline: AtomicU64::new(FIRED),
        guest: AtomicU64::new(0),
        idle_ns: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    }
}; MAX_CPUS];

/// What runs on each CPU, for dumps and panics.
static CURRENT: [spin::Mutex<Option<Arc<Vcpu>>>; MAX_CPUS] =
    [const { spin::Mutex::new(None) }; MAX_CPUS];

/// No deadline: time began later.
const FIRED: u64 = 0;

const NEVER: u64 = u64::MAX;

const IN_GUEST: u64 = 0xffff;
const ENTRY: u64 = 0x1_0000;

pub fn shared(cpu: CpuId) -> &'static Shared {
    &SHARED[cpu.index() % MAX_CPUS]
}

pub fn this() -> &'static Shared {
    shared(oxen_arch::cpu::cpu_id())
}

pub fn set_current(vcpu: Option<Arc<Vcpu>>) {
    *CURRENT[oxen_arch::cpu::cpu_id().index() % MAX_CPUS].lock() = vcpu;
}

/// None also if the CPU is just changing it.
pub fn current(cpu: CpuId) -> Option<Arc<Vcpu>> {
    CURRENT[cpu.index() % MAX_CPUS]
        .try_lock()
        .and_then(|vcpu| vcpu.clone())
}

impl Shared {
    pub fn ask_reschedule(&self) {
        self.resched.store(true, Ordering::SeqCst);
    }

    pub fn must_reschedule(&self) -> bool {
        self.resched.load(Ordering::SeqCst)
    }

    /// True if nobody has asked for as early a time: the CPU has to set its deadline anew.
    pub fn ask_reschedule_at(&self, ns: u64) -> bool {
        self.resched_at.fetch_min(ns, Ordering::SeqCst) > ns
    }

    /// When it must ask the scheduler, if not before.
    pub fn reschedules_at(&self) -> u64 {
        self.resched_at.load(Ordering::SeqCst)
    }

    /// This CPU is about to ask the scheduler.
    pub fn take_reschedule(&self) {
        self.resched.store(false, Ordering::SeqCst);
        self.resched_at.store(NEVER, Ordering::SeqCst);
    }

    /// The timer's interrupt came (perhaps early: a wait too long for its counter).
    pub fn timer_fired(&self) {
        self.deadline.store(FIRED, Ordering::Relaxed);
    }

    /// Sets this CPU's timer, unless it is set for that moment already.
    pub fn set_deadline(&self, ns: u64) {
        if self.deadline.load(Ordering::Relaxed) != ns {
            self.deadline.store(ns, Ordering::Relaxed);
            time::set_deadline(ns);
        }
    }

    /// Is this CPU's timer set, for that moment or an earlier one?
    pub fn wakes_by(&self, ns: u64) -> bool {
        (1..=ns).contains(&self.deadline.load(Ordering::Relaxed))
    }

    /// This CPU is about to use the domain's translations. What it reads after this, a flush that
    /// starts later sees it in the guest.
    pub fn enter_guest(&self, domain: DomainId) {
        let entries = self.guest.load(Ordering::Relaxed) & !IN_GUEST;
        self.guest.store(
            entries.wrapping_add(ENTRY) | (u64::from(domain.0) + 1),
            Ordering::SeqCst,
        );
    }

    pub fn leave_guest(&self) {
        let word = self.guest.load(Ordering::Relaxed);
        self.guest.store(word & !IN_GUEST, Ordering::Release);
    }

    /// Is the guest that this CPU just left to be stopped?
    pub fn take_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed) && self.stop.swap(false, Ordering::SeqCst)
    }

    /// How often it entered a guest, so far.
    pub fn entries(&self) -> u64 {
        self.guest.load(Ordering::Relaxed) / ENTRY
    }

    pub fn add_idle(&self, ns: u64) {
        self.idle_ns.fetch_add(ns, Ordering::Relaxed);
    }

    pub fn idle_ns(&self) -> u64 {
        self.idle_ns.load(Ordering::Relaxed)
    }
}

/// Makes every other CPU that is in a guest of `domain` leave it, and waits until each has. A CPU
/// that is in the hypervisor uses no guest translations, and looks for flushes before it enters.
pub fn expel(domain: DomainId) {
    let me = oxen_arch::cpu::cpu_id();
    let others = smp::online();
    oxen_mm::expel::expel(&Inside(domain), others.iter().filter(|cpu| *cpu != me));
}

/// The CPUs as they run guests of one domain.
struct Inside(DomainId);

impl Cpus for Inside {
    fn inside(&self, cpu: CpuId) -> Option<u64> {
        let word = shared(cpu).guest.load(Ordering::SeqCst);
        (word & IN_GUEST == u64::from(self.0.0) + 1).then_some(word)
    }

    fn kick(&self, cpu: CpuId) {
        ipi::kick(cpu);
    }

    fn nmi(&self, cpu: CpuId) {
        log::warn!(
            "CPU{cpu} is late to leave a guest of d{}: it gets an NMI",
            self.0
        );
        ipi::nmi(cpu);
    }

    fn stop(&self, cpu: CpuId) {
        shared(cpu).stop.store(true, Ordering::SeqCst);
    }

    fn now_ns(&self) -> u64 {
        time::now_ns()
    }

    fn relax(&self) {
        ipi::poll();
        core::hint::spin_loop();
    }
}
