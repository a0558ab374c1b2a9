//! MOV to CR0 and CR3, CLTS and LMSW, where they are intercepted: for guests without nested paging
//! (SDM volume 2, MOV to and from control registers; volume 3, 4.1.2 and 10.8.5).

use super::cpuid::CpuidPolicy;
use super::msr::MsrFault;
use crate::backend::{Reg, SegReg, VcpuRegisters};
use crate::x86::*;

const CR0_KNOWN: u64 = CR0_PE
    | CR0_MP
    | CR0_EM
    | CR0_TS
    | CR0_ET
    | CR0_NE
    | CR0_WP
    | CR0_AM
    | CR0_NW
    | CR0_CD
    | CR0_PG;
/// The bits that LMSW writes.
const STATUS: u64 = CR0_PE | CR0_MP | CR0_EM | CR0_TS;

/// Sets CR0, and EFER.LMA with it, or says that it faults: #GP(0).
pub fn write_cr0(vcpu: &mut dyn VcpuRegisters, value: u64) -> Result<(), MsrFault> {
    let old = vcpu.get(Reg::Cr0);
    let efer = vcpu.get(Reg::Efer);
    let cr4 = vcpu.get(Reg::Cr4);
    let (on, off) = (value & !old & CR0_PG != 0, old & !value & CR0_PG != 0);
    let long_code = vcpu.segment(SegReg::Cs).long();
    let has = |bits| value & bits == bits;
    if value >> 32 != 0
        || (has(CR0_PG) && !has(CR0_PE))
        || (has(CR0_NW) && !has(CR0_CD))
        || (on && efer & EFER_LME != 0 && (cr4 & CR4_PAE == 0 || long_code))
        || (off && (cr4 & CR4_PCIDE != 0 || (efer & EFER_LMA != 0 && long_code)))
    {
        return Err(MsrFault);
    }
    if on && efer & EFER_LME != 0 {
        vcpu.set(Reg::Efer, efer | EFER_LMA);
    } else if off {
        vcpu.set(Reg::Efer, efer & !EFER_LMA);
    }
    vcpu.set(Reg::Cr0, value & CR0_KNOWN);
    Ok(())
}

/// LMSW sets the low bits; it cannot clear PE.
pub fn write_status(vcpu: &mut dyn VcpuRegisters, value: u64) -> Result<(), MsrFault> {
    let old = vcpu.get(Reg::Cr0);
    write_cr0(vcpu, old & !(STATUS & !CR0_PE) | value & STATUS)
}

/// Sets CR3, or says that it faults.
pub fn write_cr3(
    vcpu: &mut dyn VcpuRegisters,
    cpuid: &CpuidPolicy,
    value: u64,
) -> Result<(), MsrFault> {
    let long = vcpu.get(Reg::Efer) & EFER_LMA != 0;
    let tags = vcpu.get(Reg::Cr4) & CR4_PCIDE != 0;
    // With PCIDs, bit 63 asks to keep translations: nobody has to.
    let value = if tags { value & !(1 << 63) } else { value };
    if long && value >> cpuid.phys_bits() != 0 {
        return Err(MsrFault);
    }
    vcpu.set(Reg::Cr3, value);
    Ok(())
}
