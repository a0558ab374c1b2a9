//! What one physical CPU owns for AMD-V.
#![allow(unsafe_code, reason = "SVM is switched on by MSR writes")]

use alloc::boxed::Box;

use oxen_types::{CpuId, Maddr};

use super::caps::SvmCaps;
use super::insn;
use super::vmcb::Vmcb;
use crate::platform::{ToMaddr, VirtError};
use crate::spec::{Controls, SpecCpu};
use crate::tags::TagPool;
use crate::x86::{EFER_SVME, MSR_EFER, MSR_VM_CR, MSR_VM_HSAVE_PA};
use crate::zeroed::zeroed_box;

const VM_CR_SVMDIS: u64 = 1 << 4;

/// The pages belong to the hardware as long as SVM is on, so this is never dropped.
pub struct SvmCpu {
    pub(super) asids: TagPool,
    /// Our FS, GS, TR, LDTR and system call MSRs, for VMLOAD after each exit.
    pub(super) host: Maddr,
    pub(crate) spec: SpecCpu,
}

impl SvmCpu {
    /// Switches SVM on for the CPU that we run on. Its GS base, TSS and system call MSRs must have
    /// their final values: exits restore what is saved here.
    pub fn enable(
        cpu: CpuId,
        caps: &SvmCaps,
        spec: &Controls,
        to_maddr: ToMaddr,
    ) -> Result<Self, VirtError> {
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
        Ok(Self {
            asids: TagPool::new(cpu.0, caps.asids),
            host,
            spec: SpecCpu::enable(spec),
        })
    }
}

#[cfg(not(target_os = "none"))]
impl SvmCpu {
    /// See [`crate::PhysCpu::for_tests`].
    pub(crate) fn for_tests() -> Self {
        Self {
            asids: TagPool::new(0, 16),
            host: Maddr::new(0),
            spec: SpecCpu::enable(&Controls::default()),
        }
    }
}

fn new_page(to_maddr: ToMaddr) -> Result<Maddr, VirtError> {
    let page = zeroed_box::<Vmcb>()?;
    let page = core::ptr::from_mut(Box::leak(page));
    // The CPU writes it from now on.
    Ok(to_maddr(page.expose_provenance()))
}
