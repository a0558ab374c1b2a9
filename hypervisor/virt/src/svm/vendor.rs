//! AMD-V as the platform sees it.

use alloc::boxed::Box;

use oxen_types::{CpuId, Gfn, PAGE_SIZE};

use super::{SvmCaps, SvmFeatures, SvmVcpu, cpu, maps};
use crate::backend::BoxedVcpu;
use crate::error::VirtError;
use crate::fpu::FpuLayout;
use crate::permission_maps::DomainControls;
use crate::phys_cpu::PhysCpu;
use crate::spec::Controls;
use crate::vendor::{ApicUse, NestedFormat, VcpuParts, Vendor};
use crate::zeroed::ToMaddr;

impl Vendor for SvmCaps {
    fn nested_format(&self) -> NestedFormat {
        NestedFormat::Npt
    }

    fn nested_paging(&self) -> bool {
        self.has(SvmFeatures::NESTED_PAGING)
    }

    fn tsc_aux(&self) -> bool {
        self.tsc_aux
    }

    fn apic_use(&self) -> ApicUse {
        // AVIC is not used.
        ApicUse {
            assist: false,
            posted: false,
        }
    }

    fn limit_apic(&mut self, _limit: ApicUse) {}

    fn match_fpu(&mut self, _fpu: &mut FpuLayout) {
        // Nothing of the extended state depends on AMD-V.
    }

    fn identity_table(&self) -> Option<(Gfn, Box<[u8; PAGE_SIZE]>)> {
        // Guests run without paging as they are.
        None
    }

    fn enable_cpu(
        &self,
        cpu: CpuId,
        spec: &Controls,
        to_maddr: ToMaddr,
    ) -> Result<PhysCpu, VirtError> {
        cpu::enable(cpu, self, spec, to_maddr)
    }

    fn new_domain(&self, trusted: bool, to_maddr: ToMaddr) -> Result<DomainControls, VirtError> {
        maps::new(trusted, to_maddr)
    }

    fn new_vcpu(&self, parts: VcpuParts) -> Result<BoxedVcpu, VirtError> {
        // The caller has seen that there is room for objects of a page.
        const { assert!(size_of::<SvmVcpu>() <= PAGE_SIZE) };
        Ok(Box::new(SvmVcpu::new(*self, parts)?))
    }
}
