//! The parts of a machine's virtualization that differ between AMD-V and VT-x.

use alloc::boxed::Box;
use alloc::sync::Arc;

use oxen_types::{CpuId, Gfn, PAGE_SIZE};

use crate::backend::BoxedVcpu;
use crate::error::VirtError;
use crate::fpu::FpuLayout;
use crate::permission_maps::DomainControls;
use crate::phys_cpu::PhysCpu;
use crate::quirks::Quirks;
use crate::spec::Controls;
use crate::zeroed::ToMaddr;

/// The format of the nested page tables whose root goes into `VcpuBackend::set_nested_root`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NestedFormat {
    /// AMD's, which is that of the host's own tables.
    Npt,
    /// Intel's.
    Ept,
}

/// Whether the hardware virtualizes local APICs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ApicUse {
    /// The hardware delivers and completes interrupts of a local APIC in x2APIC mode.
    pub assist: bool,
    /// The hardware delivers posted interrupts too.
    pub posted: bool,
}

/// The parts of a vcpu that do not depend on the vendor.
pub(crate) struct VcpuParts {
    pub(crate) fpu: FpuLayout,
    pub(crate) quirks: Quirks,
    pub(crate) domain: Arc<DomainControls>,
    pub(crate) to_maddr: ToMaddr,
}

/// The capabilities of the machine's virtualization hardware, and the objects made by them.
pub(crate) trait Vendor {
    /// The format of nested page tables.
    fn nested_format(&self) -> NestedFormat;
    /// Whether guests can have nested paging.
    fn nested_paging(&self) -> bool;
    /// Whether RDTSCP or RDPID work in guests, with a TSC_AUX of their own.
    fn tsc_aux(&self) -> bool;
    /// The use of the hardware's virtualization of local APICs.
    fn apic_use(&self) -> ApicUse;
    /// Limits that use. To be called before the first vcpu is made.
    fn limit_apic(&mut self, limit: ApicUse);
    /// Withdraws parts of the extended state that guests cannot have on this hardware, and features
    /// of the hardware that need extended state which is not there.
    fn match_fpu(&mut self, fpu: &mut FpuLayout);
    /// A page that each domain's memory must have, with the place: see `Platform::identity_table`.
    fn identity_table(&self) -> Option<(Gfn, Box<[u8; PAGE_SIZE]>)>;
    /// Switches virtualization on for the CPU that runs this code.
    fn enable_cpu(
        &self,
        cpu: CpuId,
        spec: &Controls,
        to_maddr: ToMaddr,
    ) -> Result<PhysCpu, VirtError>;
    /// The permission maps of a new domain.
    fn new_domain(&self, trusted: bool, to_maddr: ToMaddr) -> Result<DomainControls, VirtError>;
    /// A new vcpu.
    fn new_vcpu(&self, parts: VcpuParts) -> Result<BoxedVcpu, VirtError>;
}
