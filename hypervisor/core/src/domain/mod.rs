//! A domain: a guest's identity, memory, event channels, grants and life.
//!
//! The fields that change are private to this room; each file of it holds one group with its lock
//! and its methods: `lifecycle` (pauses, shutdown, the end), `shared` (the shared_info page and its
//! wall clock), `hvm` (parameters, memory map and callback), `memory` (the limit of RAM),
//! `watchdogs`, and `control` (what the toolstack sets and reads back).
//!
//! Lock order: docs/lock-order.md.

mod config;
mod control;
mod hvm;
mod lifecycle;
mod memory;
mod shared;
mod watchdogs;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use oxen_types::{DomainId, Errno, PAGE_SIZE, Result, RwLock, VcpuId, masked};

use crate::evtchn::EventChannels;
use crate::fallible::{self, Account};
use crate::grant::GrantTable;
use crate::machine::Machine;
use crate::seams::{Claimant, GuestMemory};
use crate::vcpu::{DomainArch, Hold, Vcpu};
use hvm::HvmState;
use lifecycle::Lifecycle;
use shared::SharedPages;
use spin::Mutex;
use watchdogs::Watchdogs;

pub use config::{DomainBuilder, DomainConfig, MAX_VCPUS};
pub use control::{ControlState, LogProgress, LogRead};
pub use lifecycle::{Dying, Life, ShutdownAction};

/// One guest.
pub struct Domain {
    /// The domain's number.
    pub id: DomainId,
    /// The machine that the domain runs on.
    pub machine: &'static Machine,
    /// The settings that were fixed when the domain was made.
    pub config: DomainConfig,
    /// The guest-physical address space.
    pub memory: Box<dyn GuestMemory>,
    /// The processor side.
    pub arch: Box<dyn DomainArch>,
    /// The hypervisor's memory that the domain's tables take.
    pub heap: Account,
    /// The event channels.
    pub events: EventChannels,
    /// The grants that the domain gives, and its mappings of others'.
    pub grants: GrantTable,
    lifecycle: Lifecycle,
    shared: SharedPages,
    hvm: HvmState,
    watchdogs: Watchdogs,
    control: Mutex<ControlState>,
    vcpus: RwLock<Vec<Arc<Vcpu>>>,
}

/// Bytes of the hypervisor's heap that a domain's tables may take: as much as its limits on ports,
/// grants and mappings allow.
fn heap_quota(config: &DomainConfig) -> usize {
    let (ports, vcpus) = (config.max_ports as usize, config.max_vcpus as usize);
    let grants = config.max_grant_frames as usize;
    let leaves = EventChannels::pages(ports, vcpus)
        + GrantTable::pages(grants, config.max_maptrack_frames as usize);
    // A directory for each 128 leaves; and of each table a root and a directory that is not full.
    let pages = leaves + leaves / 128 + 16;
    pages * PAGE_SIZE
}

impl Domain {
    /// Makes a domain without vcpus, which the toolstack has paused once. The machine does not list
    /// it yet.
    ///
    /// # Errors
    /// `Inval` if the number of vcpus is out of range; `NoMem` if the hypervisor has no memory.
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
        let shared = SharedPages::new(frames.alloc(id).ok_or(Errno::NoMem)?);
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
                memory,
                arch,
                heap,
                events,
                grants,
                lifecycle: Lifecycle::new(),
                shared,
                hvm: HvmState::new(),
                watchdogs: Watchdogs::default(),
                control: Mutex::new(ControlState::new(config.handle)),
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
    ///
    /// # Errors
    /// `NoMem` if the hypervisor has no memory for one of them; then the domain has none.
    pub fn create_vcpus(self: &Arc<Self>) -> Result<()> {
        let made = self.try_create_vcpus();
        if made.is_err() {
            // Each vcpu holds the domain, and the domain each vcpu.
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

    /// A vcpu by its number.
    pub fn vcpu(&self, id: u32) -> Option<Arc<Vcpu>> {
        let vcpus = self.vcpus.read();
        let id = id as usize;
        if id >= vcpus.len() {
            return None;
        }
        vcpus.get(masked(id, vcpus.len())).cloned()
    }

    /// The vcpus in the order of their numbers. No lock is held between two of them.
    pub fn vcpus(&self) -> impl Iterator<Item = Arc<Vcpu>> + '_ {
        (0..).map_while(|id| self.vcpu(id))
    }

    /// Runs `visit` on the list of vcpus, with the list's lock held for reading.
    pub fn with_vcpus<R>(&self, visit: impl FnOnce(&[Arc<Vcpu>]) -> R) -> R {
        visit(&self.vcpus.read())
    }

    fn each_vcpu(&self, act: impl Fn(&Arc<Vcpu>)) {
        self.with_vcpus(|vcpus| vcpus.iter().for_each(act));
    }

    /// Runs `act` on what the toolstack sets and reads back.
    pub fn with_control<R>(&self, act: impl FnOnce(&mut ControlState) -> R) -> R {
        act(&mut self.control.lock())
    }
}
