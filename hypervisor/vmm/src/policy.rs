//! CPUID and MSR policies of the machine's domains.

use guest_pv_abi::{CpuidLeaf, XEN_CPUID_NO_SUBLEAF, take_first};
use oxen_core::domain::DomainConfig;
use oxen_core::hypercall::version;
use oxen_types::{Errno, Result};
use oxen_virt::policy::{CpuidPolicy, DomainShape, HypervisorInfo, MsrPolicy};
use oxen_virt::x86::{CpuIdReaderNative, CpuIdResult};

use crate::Vmm;
use crate::domain::HvmDomain;
use crate::host::Host;

/// The CPUID policy of a new domain.
pub(crate) fn cpuid<H: Host>(
    vmm: &Vmm<H>,
    config: &DomainConfig,
    dom0: bool,
    shadow: bool,
) -> CpuidPolicy {
    let shape = DomainShape {
        dom0,
        shadow,
        vcpus: config.max_vcpus,
        speculation: vmm.virt.spec.offer,
        without_cx16: vmm.virt.quirks.cx16_broken,
    };
    CpuidPolicy::new(&CpuIdReaderNative, &vmm.virt.fpu, shape)
}

/// The MSR policy of a new domain.
pub(crate) fn msrs<H: Host>(vmm: &Vmm<H>, dom0: bool) -> MsrPolicy {
    MsrPolicy {
        dom0,
        host: vmm.settings.msrs,
        arch_caps: vmm.virt.spec.offer.arch_caps,
    }
}

impl<H: Host> HvmDomain<H> {
    /// The content of the leaves from 0x40000000 on, for a vcpu whose TSC is the host's plus
    /// `tsc_offset`.
    pub(crate) fn hypervisor_info(&self, tsc_offset: u64) -> HypervisorInfo {
        let host = &self.vmm.host;
        let scale = host.tsc_scale();
        HypervisorInfo {
            domain: self.id,
            major: version::MAJOR as u16,
            minor: version::MINOR as u16,
            tsc_reliable: host.tsc_is_reliable(),
            rdtscp: self.vmm.virt.tsc_aux(),
            tsc_khz: host.tsc_khz(),
            tsc_mode: 0,
            incarnation: 1,
            tsc_offset,
            tsc_mul: scale.mul,
            tsc_shift: scale.shift,
            iommu_mappings: false,
        }
    }
}

/// Narrows a policy by an array of `xen_cpuid_leaf_t`.
///
/// # Errors
/// `Inval` if a leaf shows what the policy cannot; then the policy stays as it is.
pub(crate) fn set_cpuid(policy: &mut CpuidPolicy, leaves: &[u8]) -> Result<()> {
    let mut narrowed = policy.clone();
    let mut rest = leaves;
    while let Some((leaf, more)) = take_first::<CpuidLeaf>(rest) {
        let subleaf = match leaf.subleaf {
            XEN_CPUID_NO_SUBLEAF => 0,
            subleaf => subleaf,
        };
        let regs = CpuIdResult {
            eax: leaf.a,
            ebx: leaf.b,
            ecx: leaf.c,
            edx: leaf.d,
        };
        narrowed
            .set(leaf.leaf, subleaf, regs)
            .map_err(|_| Errno::Inval)?;
        rest = more;
    }
    *policy = narrowed;
    Ok(())
}

/// Visits a policy, a leaf at a time.
///
/// # Errors
/// Those of `visit`, which end the list.
pub(crate) fn each_leaf(
    policy: &CpuidPolicy,
    visit: &mut dyn FnMut(&CpuidLeaf) -> Result<()>,
) -> Result<()> {
    for (leaf, subleaf, regs) in policy.leaves() {
        let CpuIdResult {
            eax: a,
            ebx: b,
            ecx: c,
            edx: d,
        } = regs;
        visit(&CpuidLeaf {
            leaf,
            subleaf,
            a,
            b,
            c,
            d,
        })?;
    }
    Ok(())
}
