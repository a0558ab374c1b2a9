//! One vcpu's processor side: back end, local APIC and MSRs, behind core's seams.
//!
//! The context is locked by the CPU that has it loaded for as long as it has; others look at it
//! only while the vcpu is paused, and never wait for the lock.

use alloc::sync::Arc;

use oxen_core::vcpu::{PostedStart, Vcpu, VcpuArch};
use oxen_paging::shadow::VcpuShadow;
use oxen_types::{CpuId, Errno, Result, VcpuId};
use oxen_virt::dev::lapic::{Lapic, LapicPosted};
use oxen_virt::policy::MsrState;
use oxen_virt::{ApicAssist, BoxedVcpu, Reg, RunDeadline, start};
use spin::{Mutex, MutexGuard};

use crate::domain::HvmDomain;
use crate::exits::Cx;
use crate::host::{Host, PostedTarget, Time};
use crate::run;
use crate::runner::Phys;

/// A vcpu that virtualization hardware runs.
pub(crate) struct HvmVcpu<H: Host> {
    /// Its domain's processor side.
    pub(crate) domain: Arc<HvmDomain<H>>,
    /// The half of its local APIC that any CPU posts to.
    pub(crate) posted: Arc<LapicPosted>,
    /// See the module.
    pub(crate) context: Mutex<Context>,
    number: usize,
}

/// Processor state that only one CPU at a time may use.
pub(crate) struct Context {
    pub(crate) backend: BoxedVcpu,
    lapic: Lapic,
    /// The hardware has the current state of the APIC's interrupts: see [`Context::lapic`].
    lapic_lent: bool,
    /// The hardware can virtualize the APIC. Kept here, as each entry reads it.
    lapic_lendable: bool,
    pub(crate) msrs: MsrState,
    /// Without nested paging: its place among the tables that the CPU uses.
    pub(crate) shadow: Option<VcpuShadow>,
    /// The flush generation of the domain that its translations are not older than.
    pub(crate) flushed: u64,
    /// The `Now::ns` for which the local APIC's timer is queued.
    pub(crate) lapic_deadline: Option<u64>,
    leave_at: TscAt,
}

/// The host's TSC at a moment. The moment is mostly the one of the last call, so the result is
/// kept.
#[derive(Default)]
pub(crate) struct TscAt {
    ns: u64,
    tsc: u64,
}

impl TscAt {
    /// The TSC when the system time is `ns`.
    pub(crate) fn get(&mut self, ns: u64, time: &impl Time) -> u64 {
        if self.ns != ns {
            *self = Self {
                ns,
                tsc: time.tsc_at(ns),
            };
        }
        self.tsc
    }
}

/// Tries for a context that another call may hold.
const PATIENCE: u32 = 10_000;

impl<H: Host> HvmVcpu<H> {
    pub(crate) fn new(
        domain: Arc<HvmDomain<H>>,
        id: VcpuId,
        mut backend: BoxedVcpu,
        lapic: Lapic,
        msrs: MsrState,
        shadow: Option<VcpuShadow>,
    ) -> Self {
        let posted = lapic.posted().clone();
        let flushed = 0;
        let lapic_lendable = backend.apic_assist().is_some();
        let context = Context {
            backend,
            lapic,
            lapic_lent: false,
            lapic_lendable,
            msrs,
            shadow,
            flushed,
            lapic_deadline: None,
            leave_at: TscAt::default(),
        };
        Self {
            domain,
            posted,
            context: Mutex::new(context),
            number: id.index(),
        }
    }

    /// The guest's TSC is the host's plus this.
    pub(crate) fn current_tsc_offset(&self) -> u64 {
        self.domain.tsc.get(self.number)
    }

    /// The guest wrote the counter of this vcpu.
    pub(crate) fn set_tsc_offset(&self, offset: u64) {
        self.domain.tsc.set(self.number, offset);
    }

    /// A CPU loads it, or its state is asked for: the counter may have been moved meanwhile.
    pub(crate) fn apply_tsc(&self, context: &mut Context) {
        self.domain.tsc.apply(self.number, &mut *context.backend);
    }

    /// Restarts the vcpu's TSC with the counter of vcpu 0.
    pub(crate) fn restart_tsc(&self, context: &mut Context) {
        let backend = &mut *context.backend;
        context.msrs.tsc_adjust = self.domain.tsc.restart(self.number, backend);
    }

    /// The context of a vcpu that does not run. -EBUSY if it does after all: a CPU holds it for as
    /// long as it has the vcpu loaded, another call of a toolstack's for microseconds.
    fn paused(&self) -> Result<MutexGuard<'_, Context>> {
        let mut tries = (0..PATIENCE).inspect(|_| core::hint::spin_loop());
        let mut context = tries
            .find_map(|_| self.context.try_lock())
            .ok_or(Errno::Busy)?;
        self.apply_tsc(&mut context);
        Ok(context)
    }
}

impl<H: Host> VcpuArch for HvmVcpu<H> {
    fn run(&self, vcpu: &Arc<Vcpu>, slice_end: u64) {
        // The scheduler gave it to this CPU: nobody else has the context, but for a toolstack's
        // call that is just done.
        let context = &mut *self.context.lock();
        let mut runner = Cx {
            context,
            hvm: self,
            vcpu,
        };
        run::run(self.domain.vmm, vcpu, &mut runner, slice_end);
    }

    fn post_vector(&self, vector: u8) {
        self.posted.post(vector, false);
    }

    fn notify(&self, cpu: CpuId) -> bool {
        let takes = self.posted.hardware_takes_all();
        if takes && self.posted.descriptor().announce() {
            self.domain.vmm.host.notify(cpu);
        }
        takes
    }

    fn post_nmi(&self) {
        self.posted.post_nmi();
    }

    fn posted_start(&self) -> PostedStart {
        PostedStart {
            init: self.posted.init_pending(),
            startup: self.posted.startup_pending(),
        }
    }

    fn tsc_offset(&self) -> u64 {
        self.current_tsc_offset()
    }

    fn has_deliverable_event(&self) -> bool {
        !self.posted.is_empty()
    }

    fn save(&self, kind: u16, write: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        crate::save::save(self, &mut *self.paused()?, kind, write)
    }

    fn load(&self, kind: u16, record: &[u8]) -> Result<()> {
        crate::save::load(self, &mut *self.paused()?, kind, record)
    }

    fn load_start_context(&self, context: &[u8]) -> Result<()> {
        let mut own = self.paused()?;
        crate::save::start(&mut own, context)?;
        self.restart_tsc(&mut own);
        Ok(())
    }

    fn start_pvh(&self, entry: u32, start_info: u32) -> Result<()> {
        start::pvh(&mut *self.paused()?.backend, entry, start_info);
        Ok(())
    }
}

impl Context {
    /// The local APIC, taken back from the hardware if it was lent.
    #[inline]
    pub(crate) fn lapic(&mut self) -> &mut Lapic {
        if self.lapic_lent {
            self.take_lapic();
        }
        &mut self.lapic
    }

    #[cold]
    fn take_lapic(&mut self) {
        self.lapic_lent = false;
        let image = self.backend.apic_assist().and_then(ApicAssist::take_back);
        if let Some(image) = image {
            self.lapic.take(&image);
        }
    }

    /// For what the hardware has no part in: the mode, the timer.
    pub(crate) fn lapic_settings(&self) -> &Lapic {
        &self.lapic
    }

    /// Back end and local APIC at once, the latter as [`Context::lapic`] has it.
    pub(crate) fn parts(&mut self) -> (&mut BoxedVcpu, &mut Lapic) {
        self.lapic();
        (&mut self.backend, &mut self.lapic)
    }

    /// Lends the local APIC to the hardware for the next entry, with all that was posted, if there
    /// is such hardware and it can have it.
    pub(crate) fn lend_lapic(&mut self) -> bool {
        if !self.lapic_lendable || !self.lapic.suits_hardware() {
            return false;
        }
        if !self.lapic_lent || self.lapic.has_news() {
            let image = self.lapic().image();
            let Some(assist) = self.backend.apic_assist() else {
                return false;
            };
            assist.lend(&image);
            self.lapic_lent = true;
        }
        true
    }

    /// The CPU that this runs on takes it; `target` is where the CPU takes notifications of posted
    /// interrupts.
    pub(crate) fn load(&mut self, phys: &mut Phys, target: impl FnOnce() -> Option<PostedTarget>) {
        if let Some(phys) = phys {
            self.backend.load(phys);
        }
        if let Some(assist) = self.backend.apic_assist()
            && assist.delivers_posted()
            && let Some(target) = target()
        {
            let descriptor = self.lapic.posted().descriptor();
            descriptor.arm(target.vector, target.apic_id, target.x2apic);
        }
    }

    /// The CPU gives it up.
    pub(crate) fn unload(&mut self, phys: &mut Phys) {
        self.lapic().posted().descriptor().disarm();
        if let Some(phys) = phys {
            self.backend.unload(phys);
        }
    }

    /// The task priority lives in the back end while the guest runs; the APIC gets it for its sums.
    pub(crate) fn sync_cr8(&mut self) {
        let class = self.backend.get(Reg::Cr8) as u8;
        if !self.lapic_lent && class != self.lapic.cr8() {
            self.lapic.set_cr8(class);
        }
    }

    /// The guest wrote its local APIC's registers by an exit: the task priority is the back end's
    /// while it runs.
    pub(crate) fn lapic_written(&mut self) {
        let class = u64::from(self.lapic().cr8());
        if self.backend.get(Reg::Cr8) != class {
            self.backend.set(Reg::Cr8, class);
        }
    }

    /// The back end's timer for the end of a run, if there is one, and the TSC at a moment.
    pub(crate) fn run_deadline(&mut self) -> Option<(&mut dyn RunDeadline, &mut TscAt)> {
        let leave_at = &mut self.leave_at;
        self.backend.run_deadline().map(|timer| (timer, leave_at))
    }

    /// INIT.
    pub(crate) fn init(&mut self) {
        self.backend.reset(false);
        self.lapic().init();
    }

    /// The domain's memory changed: no translation is good any more.
    pub(crate) fn flush_translations(&mut self) {
        self.backend.flush_tlb();
    }

    /// The guest loaded CR3, perhaps with what it was.
    pub(crate) fn new_address_space(&mut self) {
        if let Some(shadow) = &mut self.shadow {
            shadow.new_address_space();
        }
    }

    /// SIPI, to a vcpu that waits for one: it starts in real mode at the page.
    pub(crate) fn sipi(&mut self, page: u8) {
        start::sipi(&mut *self.backend, page);
    }
}
