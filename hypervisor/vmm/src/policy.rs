//! CPUID and MSR policies of the machine's domains.

use guest_pv_abi::{CpuidLeaf, XEN_CPUID_NO_SUBLEAF, take_first};
use oxen_arch::cpu::msr::rdmsr_safe;
use oxen_arch::{cpu::regs, smp, time};
use oxen_core::domain::DomainConfig;
use oxen_core::hypercall::version;
use oxen_types::{DomainId, Errno, Result};
use oxen_virt::policy::{
    CpuidPolicy, DomainShape, HostMsrs, HypervisorInfo, MsrPolicy, MsrState, Mtrr,
};
use oxen_virt::x86::{CpuIdReaderNative, CpuIdResult};
use spin::Once;

use crate::globals;

static INVARIANT: Once<bool> = Once::new();
static HOST_MSRS: Once<HostMsrs> = Once::new();

pub fn cpuid(config: &DomainConfig, dom0: bool, shadow: bool) -> CpuidPolicy {
    let shape = DomainShape {
        dom0,
        shadow,
        vcpus: config.max_vcpus,
        speculation: globals::get().virt.spec.offer,
        without_cx16: globals::get().virt.quirks.cx16_broken,
    };
    CpuidPolicy::new(&CpuIdReaderNative, &globals::get().virt.fpu, shape)
}

pub fn msr_policy(dom0: bool) -> MsrPolicy {
    let read = || {
        HostMsrs::read(globals::get().is_amd, &mut |msr| {
            rdmsr_safe(msr).unwrap_or(0)
        })
    };
    MsrPolicy {
        dom0,
        host: *HOST_MSRS.call_once(read),
        arch_caps: globals::get().virt.spec.offer.arch_caps,
    }
}

/// dom0 has the machine's memory types, guests have all of memory write-back.
pub fn msr_state(dom0: bool) -> MsrState {
    let mtrr = if dom0 {
        Mtrr::of_host(&mut |msr| rdmsr_safe(msr).unwrap_or(0))
    } else {
        Mtrr::write_back()
    };
    MsrState {
        tsc_adjust: 0,
        mtrr,
    }
}

/// The host's TSCs run at one rate in all states (CPUID 8000_0007 EDX bit 8), and agree.
fn tsc_is_reliable() -> bool {
    let invariant = *INVARIANT.call_once(|| {
        regs::cpuid(0x8000_0000, 0).eax >= 0x8000_0007
            && regs::cpuid(0x8000_0007, 0).edx & 1 << 8 != 0
    });
    (invariant || time::source() == time::ClockSource::Tsc) && smp::tsc_check().agree()
}

pub fn hypervisor_info(domain: DomainId, tsc_offset: u64) -> HypervisorInfo {
    let scale = time::tsc_scale();
    HypervisorInfo {
        domain,
        major: version::MAJOR as u16,
        minor: version::MINOR as u16,
        tsc_reliable: tsc_is_reliable(),
        rdtscp: globals::get().virt.tsc_aux(),
        tsc_khz: time::tsc_khz() as u32,
        tsc_mode: 0,
        incarnation: 1,
        tsc_offset,
        tsc_mul: scale.mul_frac,
        tsc_shift: scale.shift,
        iommu_mappings: false,
    }
}

/// Narrows a policy by an array of `xen_cpuid_leaf_t`.
///
/// # Errors
/// `Inval` if a leaf shows what the policy cannot; then the policy stays as it is.
pub fn set_cpuid(policy: &mut CpuidPolicy, leaves: &[u8]) -> Result<()> {
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

pub fn each_leaf(
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
