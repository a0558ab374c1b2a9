//! A domain: a guest's identity, memory, event channels, grants and life.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};

use oxen_types::{DomainId, Errno, Gfn, PAGE_SIZE, Result, RwLock, VcpuId, masked};
use spin::Mutex;

use crate::evtchn::EventChannels;
use crate::fallible::{self, Account};
use crate::grant::GrantTable;
use crate::machine::Machine;
use crate::params::HvmParams;
use crate::seams::{Claimant, DomainArch, GuestMemory, PageRef};
use crate::vcpu::{Hold, Vcpu};

/// Most vcpus that one domain can have.
pub const MAX_VCPUS: u32 = 128;

/// What is fixed when a domain is made (`struct xen_domctl_createdomain`).
#[derive(Clone, Debug)]
pub struct DomainConfig {
    pub privileged: bool,
    pub handle: [u8; 16],
    pub ssid: u32,
    /// XEN_DOMCTL_CDF_*
    pub flags: u32,
    /// XEN_X86_EMU_*
    pub emulation: u32,
    pub max_vcpus: u32,
    pub max_ports: u32,
    pub max_grant_frames: u32,
    pub max_maptrack_frames: u32,
}

/// Bytes of the hypervisor's heap that a domain's tables may take: what its limits on ports, grants and
/// mappings come to.
fn heap_quota(config: &DomainConfig) -> usize {
    let (ports, vcpus) = (config.max_ports as usize, config.max_vcpus as usize);
    let grants = config.max_grant_frames as usize;
    let leaves = EventChannels::pages(ports, vcpus)
        + GrantTable::pages(grants, config.max_maptrack_frames as usize);
    // A directory for each 128 leaves; and of each table a root and a directory that is not full.
    let pages = leaves + leaves / 128 + 16;
    pages * PAGE_SIZE
}

/// How far a domain is on its way out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
pub enum Dying {
    Alive,
    /// Its resources are being taken back, in steps.
    Dying,
    /// Nothing is left of it but its number, and frames that others hold. It stays in the list until these
    /// are gone, so that they are seen, and so that nobody else gets the number.
    Dead,
}

/// A domain's life as its toolstack sees it.
pub struct Life {
    pub dying: Dying,
    /// SHUTDOWN_* once the guest has shut down or crashed.
    pub shutdown: Option<u32>,
    /// Times the toolstack paused it and has not yet unpaused it.
    pub pauses: u32,
    /// Pauses among them of calls that still wait for the domain to stand still.
    unanswered: u32,
    /// It may have run: its toolstack has unpaused it.
    pub started: bool,
}

pub struct Domain {
    pub id: DomainId,
    pub machine: &'static Machine,
    pub config: DomainConfig,
    pub handle: Mutex<[u8; 16]>,
    pub memory: Box<dyn GuestMemory>,
    pub arch: Box<dyn DomainArch>,
    /// The hypervisor's memory that its tables take.
    pub heap: Account,
    pub events: EventChannels,
    pub grants: GrantTable,
    pub params: Mutex<HvmParams>,
    pub life: Mutex<Life>,
    /// The shared_info frame: ours, and in the guest's space once it asked for it.
    pub shared_info: PageRef,
    pub shared_info_gfn: Mutex<Option<Gfn>>,
    /// Seconds that this domain's wall clock is ahead of the machine's.
    pub time_offset: AtomicI64,
    /// Held by whoever writes the wall clock into shared_info.
    pub(crate) wall_clock: Mutex<()>,
    /// What XENMEM_memory_map tells an unprivileged guest: its toolstack set it.
    pub memory_map: Mutex<Vec<guest_pv_abi::E820Entry>>,
    pub suspend_port: Mutex<Option<oxen_types::Port>>,
    pub debugging: AtomicBool,
    /// HVM_PARAM_CALLBACK_IRQ as a vector for all vcpus, injected without the local APIC; 0 if none.
    pub callback_vector: AtomicU8,
    /// Which of its watchdogs (SCHEDOP_watchdog) somebody in the guest has.
    pub watchdogs: Mutex<[bool; 2]>,
    /// What domctl keeps of it.
    pub control: Mutex<crate::control::Kept>,
    vcpus: RwLock<Vec<Arc<Vcpu>>>,
}

impl Domain {
    pub fn new(
        machine: &'static Machine,
        id: DomainId,
        config: DomainConfig,
        memory: Box<dyn GuestMemory>,
        arch: Box<dyn DomainArch>,
    ) -> Result<Arc<Self>> {
        if config.max_vcpus == 0 || config.max_vcpus > MAX_VCPUS {
            return Err(Errno::Inval);
        }
        let frames = machine.frames;
        let shared_info = frames.alloc(id).ok_or(Errno::NoMem)?;
        let who = match config.privileged {
            true => Claimant::Privileged,
            false => Claimant::Guest,
        };
        let heap = Account::new(frames, who, heap_quota(&config));
        let events = EventChannels::new(&heap, config.max_ports, config.max_vcpus)?;
        let grants = GrantTable::new(
            frames,
            &heap,
            id,
            config.max_grant_frames,
            config.max_maptrack_frames,
        )?;
        let vcpus = fallible::list(config.max_vcpus as usize)?;
        let make = || {
            Arc::new(Self {
                id,
                machine,
                handle: Mutex::new(config.handle),
                memory,
                arch,
                heap,
                events,
                grants,
                params: Mutex::new(HvmParams::default()),
                life: Mutex::new(Life {
                    dying: Dying::Alive,
                    shutdown: None,
                    pauses: 1,
                    unanswered: 0,
                    started: false,
                }),
                shared_info,
                shared_info_gfn: Mutex::new(None),
                time_offset: AtomicI64::new(0),
                wall_clock: Mutex::new(()),
                memory_map: Mutex::new(Vec::new()),
                suspend_port: Mutex::new(None),
                debugging: AtomicBool::new(false),
                callback_vector: AtomicU8::new(0),
                watchdogs: Mutex::default(),
                control: Mutex::new(crate::control::Kept::default()),
                vcpus: RwLock::new(vcpus),
                config,
            })
        };
        let domain = fallible::with_reserve(frames, make)?;
        domain.update_wall_clock();
        Ok(domain)
    }

    /// Makes the vcpus that the configuration names. They start paused with the domain, and all but
    /// those that get a context are down.
    pub fn create_vcpus(self: &Arc<Self>) -> Result<()> {
        let made = self.try_create_vcpus();
        if made.is_err() {
            // They and the domain hold each other.
            self.retire_vcpus();
        }
        made
    }

    fn try_create_vcpus(self: &Arc<Self>) -> Result<()> {
        let mut vcpus = self.vcpus.write();
        while (vcpus.len() as u32) < self.config.max_vcpus {
            let id = VcpuId(vcpus.len() as u32);
            let frames = self.machine.frames;
            let arch = fallible::with_reserve(frames, || self.arch.new_vcpu(id))??;
            let vcpu = Vcpu::new(self, id, arch)?;
            vcpu.hold(Hold::DomainPaused);
            fallible::push(&mut vcpus, vcpu)?;
        }
        Ok(())
    }

    fn retire_vcpus(&self) {
        let vcpus = core::mem::take(&mut *self.vcpus.write());
        for vcpu in &vcpus {
            vcpu.retire();
        }
    }

    pub fn vcpu(&self, id: u32) -> Option<Arc<Vcpu>> {
        let vcpus = self.vcpus.read();
        let id = id as usize;
        if id >= vcpus.len() {
            return None;
        }
        vcpus.get(masked(id, vcpus.len())).cloned()
    }

    /// Its vcpus in their order. No lock is held between two of them.
    pub fn vcpus(&self) -> impl Iterator<Item = Arc<Vcpu>> + '_ {
        (0..).map_while(|id| self.vcpu(id))
    }

    pub fn with_vcpus<R>(&self, visit: impl FnOnce(&[Arc<Vcpu>]) -> R) -> R {
        visit(&self.vcpus.read())
    }

    pub fn is_dying(&self) -> bool {
        self.life.lock().dying != Dying::Alive
    }

    /// One more reason of the toolstack's to stand still. The vcpus may still be on their way out
    /// of the guest: see [`Domain::is_quiet`].
    pub fn pause(&self) -> Result<()> {
        self.add_pause(&mut self.life.lock())
    }

    fn add_pause(&self, life: &mut Life) -> Result<()> {
        life.pauses = life.pauses.checked_add(1).ok_or(Errno::Overflow)?;
        self.with_vcpus(|vcpus| vcpus.iter().for_each(|vcpu| vcpu.hold(Hold::DomainPaused)));
        Ok(())
    }

    /// A part of a call that pauses: only the first counts. One pause is as good as another, so a call
    /// may take over what another one has counted: that one then counts anew.
    pub fn pause_once(&self) -> Result<()> {
        let mut life = self.life.lock();
        if life.unanswered == 0 {
            self.add_pause(&mut life)?;
            life.unanswered = 1;
        }
        Ok(())
    }

    /// The call is done, and its pause stays.
    pub fn pause_answered(&self) {
        let mut life = self.life.lock();
        life.unanswered = life.unanswered.saturating_sub(1);
    }

    pub fn unpause(&self) -> Result<()> {
        let mut life = self.life.lock();
        life.pauses = life.pauses.checked_sub(1).ok_or(Errno::Inval)?;
        life.unanswered = life.unanswered.min(life.pauses);
        if life.pauses == 0 && life.dying == Dying::Alive {
            life.started = true;
            self.with_vcpus(|vcpus| {
                vcpus
                    .iter()
                    .for_each(|vcpu| vcpu.release(Hold::DomainPaused))
            });
        }
        Ok(())
    }

    /// Does no CPU hold the state of any of its vcpus?
    pub fn is_quiet(&self) -> bool {
        self.with_vcpus(|vcpus| vcpus.iter().all(|vcpu| vcpu.is_quiet()))
    }

    /// The guest ends: by its own will, or by a fault of its own. The first reason stays.
    pub fn shutdown(self: &Arc<Self>, reason: u32) {
        {
            let mut life = self.life.lock();
            if life.shutdown.is_some() {
                return;
            }
            life.shutdown = Some(reason);
            self.with_vcpus(|vcpus| vcpus.iter().for_each(|vcpu| vcpu.hold(Hold::ShutDown)));
        }
        log::info!("d{} shut down, reason {}", self.id, reason);
        let suspend_port = *self.suspend_port.lock();
        if self.id == DomainId::DOM0 {
            crate::hypercall::sched::dom0_is_gone(self.machine, reason);
        } else if let (guest_pv_abi::SHUTDOWN_SUSPEND, Some(port)) = (reason, suspend_port)
            && crate::evtchn::send(self, port).is_ok()
        {
            // Its toolstack asked to be told there (XEN_DOMCTL_subscribe).
        } else {
            self.machine.raise_global_virq(guest_pv_abi::VIRQ_DOM_EXC);
        }
    }

    /// A domain whose vcpus are all down has powered itself down: nobody in it could start one again.
    pub fn end_if_all_are_down(self: &Arc<Self>) {
        if self.with_vcpus(|vcpus| vcpus.iter().all(|vcpu| vcpu.is_held(Hold::Down))) {
            self.shutdown(guest_pv_abi::SHUTDOWN_POWEROFF);
        }
    }

    /// Undoes a suspend that was cancelled, or follows a restore (XEN_DOMCTL_resumedomain).
    pub fn resume(&self) {
        let mut life = self.life.lock();
        if life.shutdown.take().is_some() {
            self.with_vcpus(|vcpus| vcpus.iter().for_each(|vcpu| vcpu.release(Hold::ShutDown)));
        }
    }

    /// Takes everything back from the domain, in bounded steps. True once it is done.
    pub fn destroy_step(self: &Arc<Self>, budget: usize) -> bool {
        {
            let mut life = self.life.lock();
            if life.dying == Dying::Dead {
                return true;
            }
            if life.dying == Dying::Alive {
                life.dying = Dying::Dying;
                self.with_vcpus(|vcpus| vcpus.iter().for_each(|vcpu| vcpu.hold(Hold::Dying)));
            }
        }
        if !self.is_quiet() {
            return false;
        }
        if !self.events.teardown(self, budget) || !self.grants.teardown(self, budget) {
            return false;
        }
        self.with_vcpus(|vcpus| vcpus.iter().for_each(|vcpu| vcpu.forget_guest_memory()));
        if !self.memory.teardown(budget) {
            return false;
        }
        // To take less than there is fails for nothing but what is in use to the end.
        if self.arch.set_shadow_pool(0) == Ok(false) || self.memory.set_pool(0) == Ok(false) {
            return false;
        }
        let _ = self.memory.claim(0);
        self.retire_vcpus();
        self.life.lock().dying = Dying::Dead;
        self.machine.raise_global_virq(guest_pv_abi::VIRQ_DOM_EXC);
        self.machine.reap();
        true
    }

    /// Is it dead, and does nobody hold frames of it any more? Its own shared_info is with it to the end.
    pub fn is_gone(&self) -> bool {
        self.life.lock().dying == Dying::Dead && self.machine.frames.held_by(self.id) <= 1
    }

    pub fn set_time_offset(&self, seconds: i64) {
        self.time_offset.store(seconds, Ordering::Relaxed);
        self.update_wall_clock();
    }

    /// HVM_PARAM_CALLBACK_IRQ: the type is in the top byte, 2 being a vector.
    pub fn set_callback(&self, value: u64) {
        let vector = if value >> 56 == 2 { value as u8 } else { 0 };
        self.callback_vector.store(vector, Ordering::SeqCst);
        self.with_vcpus(|vcpus| vcpus.iter().for_each(|vcpu| vcpu.recheck_upcall()));
    }
}
