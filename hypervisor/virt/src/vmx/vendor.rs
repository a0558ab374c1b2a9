//! VT-x as the platform sees it.

use alloc::boxed::Box;

use oxen_types::{CpuId, Gfn, PAGE_SIZE};

use super::{VmxCaps, VmxVcpu, cpu, maps};
use crate::backend::BoxedVcpu;
use crate::error::VirtError;
use crate::fpu::{FpuLayout, XCR0_PKRU};
use crate::permission_maps::DomainControls;
use crate::phys_cpu::PhysCpu;
use crate::spec::Controls;
use crate::vendor::{ApicUse, NestedFormat, VcpuParts, Vendor};
use crate::zeroed::ToMaddr;

impl Vendor for VmxCaps {
    fn nested_format(&self) -> NestedFormat {
        NestedFormat::Ept
    }

    fn nested_paging(&self) -> bool {
        self.has_nested_paging()
    }

    fn tsc_aux(&self) -> bool {
        self.tsc_aux
    }

    fn apic_use(&self) -> ApicUse {
        ApicUse {
            assist: self.apic != 0,
            posted: self.posted,
        }
    }

    fn limit_apic(&mut self, limit: ApicUse) {
        self.limit_apic_to(limit);
    }

    fn match_fpu(&mut self, fpu: &mut FpuLayout) {
        fpu.xsaves = self.match_xsaves(fpu.xsaves);
        self.match_keys(fpu.xcr0 & XCR0_PKRU != 0);
    }

    fn identity_table(&self) -> Option<(Gfn, Box<[u8; PAGE_SIZE]>)> {
        self.table_for_restricted()
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
        const { assert!(size_of::<VmxVcpu>() <= PAGE_SIZE) };
        Ok(Box::new(VmxVcpu::new(*self, parts)?))
    }
}
