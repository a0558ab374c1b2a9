//! One vcpu's processor side: back end, local APIC and MSRs, behind core's port.
//!
//! The context is locked by the CPU that has it loaded for as long as it has; others look at it only
//! while the vcpu is paused, and never wait for the lock.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use oxen_arch::time;
use oxen_core::ports::VcpuArch;
use oxen_types::{Errno, Result};
use oxen_virt::dev::lapic::{Lapic, LapicPosted};
use oxen_virt::policy::MsrState;
use oxen_virt::{BoxedVcpu, start};
use spin::{Mutex, MutexGuard};

use crate::domain::HvDomain;
use crate::shadow::VcpuShadow;

pub struct HvVcpu {
    pub hv: Arc<HvDomain>,
    pub posted: Arc<LapicPosted>,
    pub context: Mutex<Context>,
    tsc_offset: AtomicU64,
}

/// Processor state that only one CPU at a time may use.
pub struct Context {
    pub backend: BoxedVcpu,
    pub lapic: Lapic,
    pub msrs: MsrState,
    /// Without nested paging: its place among the tables that the CPU uses.
    pub shadow: Option<VcpuShadow>,
    /// The flush generation of the domain that its translations are not older than.
    pub flushed: u64,
    /// INIT was taken, or it never ran: only a SIPI (or a context) starts it.
    pub waits_for_sipi: bool,
    /// The `Now::ns` for which the local APIC's timer is queued.
    pub lapic_deadline: Option<u64>,
    /// The moment at which the guest is to be left, and the TSC then.
    leave_at: (u64, u64),
}

impl HvVcpu {
    pub fn new(
        hv: Arc<HvDomain>,
        backend: BoxedVcpu,
        lapic: Lapic,
        msrs: MsrState,
        shadow: Option<VcpuShadow>,
        tsc_offset: u64,
    ) -> Self {
        let posted = lapic.posted().clone();
        let flushed = 0;
        let context = Context {
            backend,
            lapic,
            msrs,
            shadow,
            flushed,
            waits_for_sipi: true,
            lapic_deadline: None,
            leave_at: (0, 0),
        };
        Self {
            hv,
            posted,
            context: Mutex::new(context),
            tsc_offset: AtomicU64::new(tsc_offset),
        }
    }

    pub fn set_tsc_offset(&self, offset: u64) {
        self.tsc_offset.store(offset, Ordering::Relaxed);
    }

    /// The context of a vcpu that does not run. -EBUSY if it does after all.
    fn paused(&self) -> Result<MutexGuard<'_, Context>> {
        self.context.try_lock().ok_or(Errno::Busy)
    }
}

impl VcpuArch for HvVcpu {
    fn as_any(&self) -> &dyn core::any::Any {
        self
    }

    fn post_vector(&self, vector: u8) {
        self.posted.post(vector, false);
    }

    fn post_nmi(&self) {
        self.posted.post_nmi();
    }

    fn tsc_offset(&self) -> u64 {
        self.tsc_offset.load(Ordering::Relaxed)
    }

    fn has_deliverable_event(&self) -> bool {
        !self.posted.is_empty()
    }

    fn save(&self, kind: u16, into: &mut Vec<u8>) -> Result<()> {
        crate::save::save(&mut *self.paused()?, kind, into)
    }

    fn load(&self, kind: u16, record: &[u8]) -> Result<()> {
        crate::save::load(self, &mut *self.paused()?, kind, record)
    }

    fn load_start_context(&self, context: &[u8]) -> Result<()> {
        crate::save::start(&mut *self.paused()?, context)
    }

    fn reset(&self) -> Result<()> {
        let mut context = self.paused()?;
        context.backend.reset(true);
        context.lapic.reset();
        context.waits_for_sipi = true;
        Ok(())
    }
}

impl Context {
    /// The TSC at a moment, which is mostly the same as last time.
    pub fn tsc_at(&mut self, ns: u64) -> u64 {
        if self.leave_at.0 != ns {
            self.leave_at = (ns, time::tsc_at(ns));
        }
        self.leave_at.1
    }

    /// INIT: back to wait for a SIPI.
    pub fn init(&mut self) {
        self.backend.reset(false);
        self.lapic.init();
        self.waits_for_sipi = true;
    }

    /// The domain's memory changed: no translation is good any more.
    pub fn flush_translations(&mut self) {
        self.backend.flush_tlb();
    }

    /// The guest loaded CR3, perhaps with what it was.
    pub fn new_address_space(&mut self) {
        if let Some(shadow) = &mut self.shadow {
            shadow.new_address_space();
        }
    }

    /// SIPI: starts in real mode at the page, if it waits for one.
    pub fn sipi(&mut self, page: u8) {
        if core::mem::take(&mut self.waits_for_sipi) {
            start::sipi(&mut *self.backend, page);
        }
    }
}
