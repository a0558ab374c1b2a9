//! The context that VCPUOP_initialise gives a vcpu of an HVM-style domain (xen/hvm/hvm_vcpu.h).

use guest_pv_abi::{
    UnionBytes, VCPU_HVM_MODE_32B, VCPU_HVM_MODE_64B, VcpuHvmContext, VcpuHvmX86_32, VcpuHvmX86_64,
};
use oxen_types::{Errno, Result};

use crate::backend::{Reg, SegReg, Segment, VcpuBackend};
use crate::x86::{CR0_PG, CR4_PAE, EFER_LMA, EFER_LME, EFER_NX, EFER_SCE, RFLAGS_FIXED};

const EFER_VALID: u64 = EFER_SCE | EFER_LME | EFER_LMA | EFER_NX;

/// Resets the vcpu and sets its registers to those of the context.
///
/// # Errors
/// `Inval` if the mode is not known, or the control registers and EFER are not those of the mode.
pub fn start(vcpu: &mut dyn VcpuBackend, context: &VcpuHvmContext) -> Result<()> {
    match context.mode {
        VCPU_HVM_MODE_32B => start_32(vcpu, &context.regs.view()),
        VCPU_HVM_MODE_64B => start_64(vcpu, &context.regs.view()),
        _ => Err(Errno::Inval),
    }
}

fn start_32(vcpu: &mut dyn VcpuBackend, r: &VcpuHvmX86_32) -> Result<()> {
    let paging = u64::from(r.cr0) & CR0_PG != 0;
    if r.efer & !EFER_VALID != 0 || (r.efer & EFER_LME != 0 && paging) {
        return Err(Errno::Inval);
    }
    vcpu.reset(true);
    let gprs = [r.eax, r.ecx, r.edx, r.ebx, r.esp, r.ebp, r.esi, r.edi];
    for (number, value) in (0..).zip(gprs) {
        vcpu.gprs_mut().set(number, value.into());
    }
    for (reg, value) in [
        (Reg::Rip, r.eip.into()),
        (Reg::Rflags, u64::from(r.eflags) | RFLAGS_FIXED),
        (Reg::Cr0, r.cr0.into()),
        (Reg::Cr3, r.cr3.into()),
        (Reg::Cr4, r.cr4.into()),
        (Reg::Efer, r.efer),
    ] {
        vcpu.set(reg, value);
    }
    for (reg, attr, limit, base) in [
        (SegReg::Cs, r.cs_ar, r.cs_limit, r.cs_base),
        (SegReg::Ds, r.ds_ar, r.ds_limit, r.ds_base),
        (SegReg::Ss, r.ss_ar, r.ss_limit, r.ss_base),
        (SegReg::Es, r.es_ar, r.es_limit, r.es_base),
        (SegReg::Tr, r.tr_ar, r.tr_limit, r.tr_base),
    ] {
        vcpu.set_segment(reg, Segment::new(0, attr, limit, base.into()));
    }
    Ok(())
}

fn start_64(vcpu: &mut dyn VcpuBackend, r: &VcpuHvmX86_64) -> Result<()> {
    let sound = r.cr0 & CR0_PG != 0
        && r.cr4 & CR4_PAE != 0
        && r.efer & EFER_LME != 0
        && r.efer & !EFER_VALID == 0;
    if !sound {
        return Err(Errno::Inval);
    }
    vcpu.reset(true);
    let gprs = [r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi];
    for (number, value) in (0..).zip(gprs) {
        vcpu.gprs_mut().set(number, value);
    }
    for (reg, value) in [
        (Reg::Rip, r.rip),
        (Reg::Rflags, r.rflags | RFLAGS_FIXED),
        (Reg::Cr0, r.cr0),
        (Reg::Cr3, r.cr3),
        (Reg::Cr4, r.cr4),
        (Reg::Efer, r.efer | EFER_LMA),
    ] {
        vcpu.set(reg, value);
    }
    vcpu.set_segment(SegReg::Cs, Segment::new(0, 0xa9b, u32::MAX, 0));
    for reg in [SegReg::Ds, SegReg::Es, SegReg::Ss] {
        vcpu.set_segment(reg, Segment::new(0, 0xc93, u32::MAX, 0));
    }
    vcpu.set_segment(SegReg::Tr, Segment::new(0, 0x8b, 0x67, 0));
    Ok(())
}
