//! A virtual CPU as the scheduler, the event channels and the hypercalls see it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use oxen_types::{CpuId, Port, Result, VcpuId};
use spin::{Mutex, Once};

use crate::clock::TimePage;
use crate::domain::Domain;
use crate::fallible;
use crate::hypercall::Progress;
use crate::periodic::Periodic;
use crate::runstate::Runstate;
use crate::sched::{Look, UnitId};
use crate::seams::{PageRef, VcpuArch};
use crate::timer::VcpuTimers;

/// Reasons for which a vcpu may not run. It is runnable when none holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Hold {
    /// It waits for an event.
    Blocked = 1 << 0,
    /// It was never started, or was stopped (VCPUOP_down, INIT).
    Down = 1 << 1,
    /// The toolstack paused this vcpu.
    Paused = 1 << 2,
    /// The toolstack paused the domain.
    DomainPaused = 1 << 3,
    /// The domain has shut down.
    ShutDown = 1 << 4,
    Dying = 1 << 5,
}

const NO_CPU: u32 = u32::MAX;

/// Where the vcpu's `vcpu_info` lies: in shared_info until the guest moves it.
pub struct InfoArea {
    pub page: PageRef,
    pub offset: usize,
}

/// Offsets within `struct vcpu_info` (xen/xen.h).
pub mod info {
    pub const UPCALL: usize = 0;
    pub const PENDING_SEL: usize = 8;
    pub const TIME: usize = 32;
    pub const SIZE: usize = 64;
    /// vcpus that have a place in shared_info.
    pub const IN_SHARED_INFO: u32 = 32;
}

/// SCHEDOP_poll: what the vcpu waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Poll {
    No,
    One(Port),
    Any,
}

pub struct Vcpu {
    pub id: VcpuId,
    pub domain: Arc<Domain>,
    pub arch: Box<dyn VcpuArch>,
    pub unit: Once<UnitId>,
    holds: AtomicU32,
    /// The CPU that holds its processor state, or NO_CPU.
    loaded_on: AtomicU32,
    pub info: Mutex<Option<InfoArea>>,
    pub runstate: Mutex<Runstate>,
    pub time: Mutex<TimePage>,
    pub poll: Mutex<Poll>,
    /// Where a call of its goes on that is executed again.
    pub progress: Mutex<Option<Progress>>,
    /// Vector to inject through the local APIC for event upcalls; 0 if none was set.
    pub upcall_vector: AtomicU8,
    pub timers: Mutex<VcpuTimers>,
    pub(crate) periodic: Mutex<Periodic>,
    /// See `startup`.
    pub(crate) initialised: AtomicBool,
    /// Times this vcpu alone was paused by the toolstack.
    pub pauses: Mutex<u32>,
}

impl Vcpu {
    pub fn new(domain: &Arc<Domain>, id: VcpuId, arch: Box<dyn VcpuArch>) -> Result<Arc<Self>> {
        let info = (id.0 < info::IN_SHARED_INFO)
            .then(|| domain.shared_info.try_clone())
            .flatten()
            .map(|page| InfoArea {
                page,
                offset: id.index() * info::SIZE,
            });
        let now = domain.machine.now();
        let make = || {
            Arc::new(Self {
                id,
                domain: domain.clone(),
                arch,
                unit: Once::new(),
                holds: AtomicU32::new(Hold::Down as u32),
                loaded_on: AtomicU32::new(NO_CPU),
                info: Mutex::new(info),
                runstate: Mutex::new(Runstate::new(now)),
                time: Mutex::new(TimePage::default()),
                poll: Mutex::new(Poll::No),
                progress: Mutex::new(None),
                upcall_vector: AtomicU8::new(0),
                timers: Mutex::new(domain.machine.timers.new_vcpu()),
                periodic: Mutex::default(),
                initialised: AtomicBool::new(false),
                pauses: Mutex::new(0),
            })
        };
        let vcpu = fallible::with_reserve(domain.machine.frames, make)?;
        let unit = domain.machine.sched.add(vcpu.clone())?;
        vcpu.unit.call_once(|| unit);
        vcpu.update_time();
        Ok(vcpu)
    }

    /// The scheduler's name for it. Every vcpu that others can see has one.
    pub fn unit(&self) -> UnitId {
        self.unit.get().copied().unwrap_or_default()
    }

    pub fn is_runnable(&self) -> bool {
        self.holds.load(Ordering::SeqCst) == 0
    }

    /// All reasons as bits, for dumps.
    pub fn holds(&self) -> u32 {
        self.holds.load(Ordering::SeqCst)
    }

    pub fn is_held(&self, by: Hold) -> bool {
        self.holds.load(Ordering::SeqCst) & by as u32 != 0
    }

    /// Does it wait for an event, and for nothing else?
    pub fn only_waits(&self) -> bool {
        self.holds() == Hold::Blocked as u32
    }

    /// One more reason not to run. If it runs elsewhere it is on its way out when this returns, and no
    /// CPU picks it any more: [`Vcpu::is_quiet`] tells when it stands still.
    pub fn hold(&self, by: Hold) {
        let first = self.holds.fetch_or(by as u32, Ordering::SeqCst) == 0;
        // Who holds it already may not have told the scheduler yet, and the caller relies on that. Only a
        // vcpu that blocks itself needs no such word.
        if first || by != Hold::Blocked {
            let machine = self.domain.machine;
            machine.sched.sleep(self, machine.now());
        }
        if first {
            self.leave_guest();
        }
    }

    /// As [`Vcpu::hold`], interrupted before the scheduler is told.
    #[cfg(test)]
    pub(crate) fn hold_untold(&self, by: Hold) {
        self.holds.fetch_or(by as u32, Ordering::SeqCst);
    }

    /// One reason less. Wakes it if it was the last.
    pub fn release(&self, by: Hold) {
        let before = self.holds.fetch_and(!(by as u32), Ordering::SeqCst);
        if before == by as u32 {
            let machine = self.domain.machine;
            let now = machine.now();
            match machine.sched.wake(self, now) {
                Some(Look { cpu, at }) if at <= now => machine.platform.reschedule_on(cpu),
                Some(Look { cpu, at }) => machine.platform.reschedule_at(cpu, at),
                None => {}
            }
        }
    }

    /// Something waits for it: it wakes if it was blocked, and looks if it runs elsewhere.
    pub fn kick(&self) {
        if self.is_held(Hold::Blocked) {
            self.release(Hold::Blocked);
        }
        self.leave_guest();
    }

    /// As [`Vcpu::kick`], for what was posted to its local APIC: it need not leave its guest for that, if the
    /// hardware can do without.
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

    /// If it runs on another CPU, that CPU leaves the guest and enters it anew.
    fn leave_guest(&self) {
        if let Some(cpu) = self.runs_elsewhere() {
            self.domain.machine.platform.kick(cpu);
        }
    }

    fn runs_elsewhere(&self) -> Option<CpuId> {
        let this = self.domain.machine.platform.this_cpu();
        self.cpu().filter(|cpu| *cpu != this)
    }

    pub fn cpu(&self) -> Option<CpuId> {
        match self.loaded_on.load(Ordering::SeqCst) {
            NO_CPU => None,
            cpu => Some(CpuId(cpu)),
        }
    }

    /// A CPU takes or leaves its processor state.
    pub fn set_cpu(&self, cpu: Option<CpuId>) {
        self.loaded_on
            .store(cpu.map_or(NO_CPU, |cpu| cpu.0), Ordering::SeqCst);
    }

    pub fn is_quiet(&self) -> bool {
        self.cpu().is_none()
    }

    /// Waits for an event: blocked until the next kick, unless one is there already.
    pub fn block(&self) {
        self.hold(Hold::Blocked);
        if self.has_event() {
            self.release(Hold::Blocked);
        }
    }

    /// Is there an interrupt for it that it would take now?
    pub fn has_event(&self) -> bool {
        self.arch.has_deliverable_event() || (self.uses_callback() && self.upcall_pending())
    }

    /// Are its upcalls injected as a plain vector, past the local APIC?
    pub fn uses_callback(&self) -> bool {
        self.upcall_vector.load(Ordering::Relaxed) == 0
            && self.domain.callback_vector.load(Ordering::Relaxed) != 0
    }

    pub fn upcall_pending(&self) -> bool {
        let info = self.info.lock();
        info.as_ref().is_some_and(|i| {
            i.page.word(i.offset + info::UPCALL).load(Ordering::SeqCst) & 0xff != 0
        })
    }

    /// Tells the guest that an event waits for this vcpu (`evtchn_upcall_pending`), and injects the
    /// upcall if it did not know yet.
    pub fn raise_upcall(&self) {
        let known = match &*self.info.lock() {
            Some(i) => {
                let before = i.page.update(i.offset + info::UPCALL, |word| {
                    word.fetch_or(1, Ordering::SeqCst)
                });
                before & 0xff != 0
            }
            None => return,
        };
        if !known {
            self.inject_upcall();
        }
    }

    /// Injects the upcall again if one is pending: when the guest sets its vector, or switches its
    /// local APIC on.
    pub fn recheck_upcall(&self) {
        if self.upcall_pending() {
            self.inject_upcall();
        }
    }

    fn inject_upcall(&self) {
        match self.upcall_vector.load(Ordering::Relaxed) {
            0 => self.kick(),
            vector => {
                self.arch.post_vector(vector);
                self.kick_posted();
            }
        }
    }

    /// Wakes it out of SCHEDOP_poll if it polls `port`.
    pub fn end_poll(&self, port: Port) {
        let mut poll = self.poll.lock();
        if *poll == Poll::Any || *poll == Poll::One(port) {
            *poll = Poll::No;
            drop(poll);
            self.release(Hold::Blocked);
        }
    }

    /// SCHEDOP_poll's timeout came.
    pub fn poll_timed_out(&self) {
        if core::mem::replace(&mut *self.poll.lock(), Poll::No) != Poll::No {
            self.release(Hold::Blocked);
        }
    }

    /// Writes this vcpu's pvclock anew.
    pub fn update_time(&self) {
        let sample = self.domain.machine.platform.clock();
        let time = crate::clock::TimeInfo::now(sample, self.arch.tsc_offset());
        let mut page = self.time.lock();
        if let Some(i) = &*self.info.lock() {
            page.publish(&i.page, i.offset + info::TIME, &time);
        }
        page.publish_secondary(&time);
    }

    /// Lets go of all guest frames: the domain's memory is about to be taken back.
    pub fn forget_guest_memory(&self) {
        *self.info.lock() = None;
        self.time.lock().forget();
        self.runstate.lock().forget();
    }

    /// Leaves the scheduler and the timers; the last step before it is dropped.
    pub fn retire(&self) {
        self.domain.machine.timers.cancel_all(self);
        self.domain.machine.sched.remove(self);
    }
}
