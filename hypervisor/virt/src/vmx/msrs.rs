//! MSRs that neither entries nor exits switch: those of the loaded vcpu are in the CPU.
#![allow(unsafe_code, reason = "switches MSRs that the VMCS does not")]

use oxen_arch::cpu::msr::wrmsr_safe;

use super::{VmxVcpu, insn};
use crate::x86::*;

/// MSRs that the hypervisor has no use for: the guest's are in the CPU while it is loaded.
pub(super) const LOADED_MSRS: [u32; 5] = [
    MSR_STAR,
    MSR_LSTAR,
    MSR_CSTAR,
    MSR_SFMASK,
    MSR_KERNEL_GS_BASE,
];

impl VmxVcpu {
    pub(super) fn msr(&self, index: usize) -> u64 {
        match LOADED_MSRS.get(index) {
            // SAFETY: all CPUs with VT-x and long mode have them.
            Some(msr) if self.loaded => unsafe { insn::rdmsr(*msr) },
            _ => self.msrs.get(index).copied().unwrap_or(0),
        }
    }

    pub(super) fn set_msr(&mut self, index: usize, value: u64) {
        if let Some(slot) = self.msrs.get_mut(index) {
            *slot = value;
        }
        if self.loaded {
            self.write_msr(index);
        }
    }

    pub(super) fn write_msr(&self, index: usize) {
        if let (Some(msr), Some(value)) = (LOADED_MSRS.get(index), self.msrs.get(index)) {
            // What a toolstack sets may be refused (an address that is not canonical): then the
            // register must not keep another guest's value.
            // SAFETY: the hypervisor does not use these registers.
            let _ = unsafe { wrmsr_safe(*msr, *value) || wrmsr_safe(*msr, 0) };
        }
    }

    pub(super) fn write_tsc_aux(&self) {
        if self.caps.tsc_aux {
            // SAFETY: the MSR exists, and the hypervisor does not use it.
            unsafe { insn::wrmsr(MSR_TSC_AUX, self.tsc_aux & 0xffff_ffff) };
        }
    }
}
