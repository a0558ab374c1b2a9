//! Switching AMD-V on.
#![allow(unsafe_code, reason = "SVM is switched on by MSR writes")]

use alloc::boxed::Box;

use oxen_types::{CpuId, Maddr};

use super::caps::SvmCaps;
use super::insn;
use super::vmcb::Vmcb;
use crate::error::VirtError;
use crate::phys_cpu::PhysCpu;
use crate::spec::Controls;
use crate::x86::{EFER_SVME, MSR_EFER, MSR_VM_CR, MSR_VM_HSAVE_PA};
use crate::zeroed::ToMaddr;
use crate::zeroed::zeroed_box;

const VM_CR_SVMDIS: u64 = 1 << 4;

/// Switches SVM on for the CPU that runs this code. The CPU's GS base, TSS and system call MSRs
/// must have their final values: exits restore what is saved here. SVM stays on, and its pages
/// belong to the hardware, so that they are never freed.
pub(super) fn enable(
    cpu: CpuId,
    caps: &SvmCaps,
    spec: &Controls,
    to_maddr: ToMaddr,
) -> Result<PhysCpu, VirtError> {
    // SAFETY: the CPU has SVM (`caps`), hence VM_CR; reading it changes nothing.
    if unsafe { insn::rdmsr(MSR_VM_CR) } & VM_CR_SVMDIS != 0 {
        return Err(VirtError::DisabledByFirmware);
    }
    let (hsave, host) = (new_page(to_maddr)?, new_page(to_maddr)?);
    // SAFETY: the CPU has SVM and SVMDIS is clear; the save page is ours and leaked; VMSAVE
    // writes the other one, after SVME is on.
    unsafe {
        insn::wrmsr(MSR_EFER, insn::rdmsr(MSR_EFER) | EFER_SVME);
        insn::wrmsr(MSR_VM_HSAVE_PA, hsave.raw());
        insn::vmsave(host);
    }
    Ok(PhysCpu::new(cpu, caps.asids, spec, host))
}

fn new_page(to_maddr: ToMaddr) -> Result<Maddr, VirtError> {
    let page = zeroed_box::<Vmcb>()?;
    let page = core::ptr::from_mut(Box::leak(page));
    // The CPU writes it from now on.
    Ok(to_maddr(page.expose_provenance()))
}
