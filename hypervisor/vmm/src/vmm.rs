//! The vmm of one machine: what is made once at boot, and each CPU's own part.

use alloc::sync::Arc;
use alloc::vec::Vec;

use oxen_core::domain::{Domain, DomainConfig};
use oxen_core::machine::Machine;
use oxen_mm::FrameTable;
use oxen_mm::dom0::MapRange;
use oxen_types::{CpuId, DomainId, MAX_CPUS, Result};
use oxen_virt::Platform;
use oxen_virt::policy::HostMsrs;
use spin::Once;

use crate::domain::{self, HvmDomain};
use crate::host::Host;
use crate::irq_routes::IrqRoutes;
use crate::percpu::PerCpu;
use crate::trace::Trace;

/// The settings that do not change after boot.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The CPUs are AMD's, or of AMD's kind.
    pub is_amd: bool,
    /// Guests may execute from large pages.
    pub large_exec: bool,
    /// Bits of a physical address, the machine's and guests'.
    pub phys_bits: u32,
    /// The MSRs that dom0 reads as the host has them.
    pub msrs: HostMsrs,
}

/// The parts that are not the vmm's own, and the settings.
pub struct Parts<H> {
    /// The machine's CPUs, clock and devices.
    pub host: H,
    /// Domains, scheduler and timers.
    pub machine: &'static Machine,
    /// The machine's frames.
    pub frames: &'static FrameTable,
    /// The virtualization hardware.
    pub virt: &'static Platform,
    /// A place for each CPU.
    pub cpus: &'static [PerCpu; MAX_CPUS],
    /// See [`Settings`].
    pub settings: Settings,
}

/// One for the machine; lives as long as it runs.
pub struct Vmm<H: Host> {
    parts: Parts<H>,
    /// The trace.
    pub trace: Trace,
    pub(crate) irqs: IrqRoutes,
    dom0: Once<Dom0<H>>,
}

struct Dom0<H: Host> {
    domain: Arc<Domain>,
    hvm: Arc<HvmDomain<H>>,
    map: Vec<MapRange>,
}

impl<H: Host> Vmm<H> {
    /// Of these parts, without any domain.
    pub fn new(parts: Parts<H>) -> Self {
        Self {
            parts,
            trace: Trace::default(),
            irqs: IrqRoutes::new(),
            dom0: Once::new(),
        }
    }

    /// A CPU's own part.
    #[inline]
    pub fn cpu(&self, cpu: CpuId) -> &PerCpu {
        &self.parts.cpus[cpu.index() % MAX_CPUS]
    }

    /// The part of the CPU that runs this.
    #[inline]
    pub fn this_cpu(&self) -> &PerCpu {
        self.cpu(self.parts.host.this_cpu())
    }

    /// dom0 with its processor side, once it is built.
    pub(crate) fn dom0(&self) -> Option<(&Domain, &HvmDomain<H>)> {
        self.dom0.get().map(|dom0| (&*dom0.domain, &*dom0.hvm))
    }

    /// dom0's memory map; empty until it is built.
    pub fn dom0_map(&self) -> &[MapRange] {
        self.dom0.get().map_or(&[], |dom0| &dom0.map)
    }

    /// dom0 stands: devices' interrupts go to it from here on. The first call counts.
    pub(crate) fn set_dom0(&self, domain: Arc<Domain>, hvm: Arc<HvmDomain<H>>, map: Vec<MapRange>) {
        self.dom0.call_once(|| Dom0 { domain, hvm, map });
    }

    /// Makes a guest's domain with its memory and vcpus; it is not yet in the machine's list. The
    /// caller has seen that there is room for its parts ([`oxen_core::fallible::with_reserve`]).
    ///
    /// # Errors
    /// [`Errno::NoMem`](oxen_types::Errno::NoMem) if there is no memory for a part of it;
    /// [`Errno::Inval`](oxen_types::Errno::Inval) if it would have too many vcpus.
    pub fn create_domain(
        &'static self,
        id: DomainId,
        config: DomainConfig,
        max_frames: u64,
    ) -> Result<Arc<Domain>> {
        let created = domain::create(self, id, config, max_frames, None)?;
        Ok(created.0)
    }
}

impl<H: Host> core::ops::Deref for Vmm<H> {
    type Target = Parts<H>;

    fn deref(&self) -> &Parts<H> {
        &self.parts
    }
}
