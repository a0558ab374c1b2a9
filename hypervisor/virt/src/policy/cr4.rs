//! MOV to CR4, where it is intercepted: AMD-V would let guests set what CPUID hides from them, some
//! emulators even bits that no CPU has, and a guest on a shadow does not have the CPU's own CR4.

use super::cpuid::CpuidPolicy;
use super::msr::MsrFault;
use crate::backend::{Reg, VcpuEmulation};
use crate::features::{Leaf1Ecx, Leaf7Ebx, Leaf7Ecx};
use crate::x86::*;

/// VME to OSXMMEXCPT, which all CPUs with long mode have.
const COMMON: u64 = 0x7ff;
/// Bits whose change makes translations invalid.
const TRANSLATION: u64 = CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_PKE;

/// Sets CR4, or says that it faults: #GP(0). The caller steps over the instruction (SDM volume 2,
/// MOV to and from control registers).
pub fn write_cr4(
    vcpu: &mut dyn VcpuEmulation,
    cpuid: &CpuidPolicy,
    value: u64,
) -> Result<(), MsrFault> {
    let old = vcpu.get(Reg::Cr4);
    let long = vcpu.get(Reg::Efer) & EFER_LMA != 0;
    let tags = value & !old & CR4_PCIDE != 0;
    if value & !allowed(cpuid) != 0
        || (long && value & CR4_PAE == 0)
        || (tags && (!long || vcpu.get(Reg::Cr3) & 0xfff != 0))
    {
        return Err(MsrFault);
    }
    vcpu.set(Reg::Cr4, value);
    if (value ^ old) & TRANSLATION != 0 {
        vcpu.flush_tlb();
    }
    Ok(())
}

fn allowed(cpuid: &CpuidPolicy) -> u64 {
    let bit = |on, bit| if on { bit } else { 0 };
    COMMON
        | bit(cpuid.has_7_ecx(Leaf7Ecx::UMIP), CR4_UMIP)
        | bit(cpuid.has_7(Leaf7Ebx::FSGSBASE), CR4_FSGSBASE)
        | bit(cpuid.has_1(Leaf1Ecx::PCID), CR4_PCIDE)
        | bit(cpuid.has_1(Leaf1Ecx::XSAVE), CR4_OSXSAVE)
        | bit(cpuid.has_7(Leaf7Ebx::SMEP), CR4_SMEP)
        | bit(cpuid.has_7(Leaf7Ebx::SMAP), CR4_SMAP)
        | bit(cpuid.has_7_ecx(Leaf7Ecx::PKU), CR4_PKE)
}
