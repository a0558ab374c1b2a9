//! The decisions carried out on one physical CPU.
#![allow(unsafe_code, reason = "writes registers that control speculation")]

use oxen_arch::cpu::msr::{rdmsr, rdmsr_safe, wrmsr, wrmsr_safe};

use super::{Controls, IBRS, MSR_FLUSH_CMD, MSR_PRED_CMD, MSR_SPEC_CTRL, MSR_VIRT_SPEC_CTRL, SSBD};
use crate::x86::MSR_EFER;

const EFER_AIBRSE: u64 = 1 << 21;
const MSR_DE_CFG: u32 = 0xc001_1029;
const DE_CFG_LFENCE_SERIALISE: u64 = 1 << 1;

/// A vcpu's own values.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SpecVcpu {
    pub spec_ctrl: u64,
    /// VIRT_SPEC_CTRL: SSBD or nothing.
    pub virt_spec_ctrl: u64,
}

/// What one physical CPU keeps of it.
#[derive(Debug)]
pub struct SpecCpu {
    pub(crate) controls: Controls,
    /// Whose branches the predictors may know: the number of a domain's controls.
    pub(super) last_domain: u64,
}

impl SpecCpu {
    /// On the CPU that runs this: the hypervisor's own values from now on.
    pub fn enable(controls: &Controls) -> Self {
        // SAFETY: `decide` set what the CPU reports to have; none of it takes a right away.
        unsafe {
            if let Some(host) = controls.host {
                wrmsr(MSR_SPEC_CTRL, host);
            }
            if controls.automatic_ibrs {
                wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_AIBRSE);
            }
        }
        if controls.lfence {
            serialise_lfence();
        }
        Self {
            controls: *controls,
            last_domain: 0,
        }
    }

    /// A vcpu of this domain is about to run here.
    pub(crate) fn switch_to(&mut self, domain: u64) {
        if self.forgets_for(domain) {
            command(MSR_PRED_CMD);
        }
    }

    /// Are predictions to be forgotten before it? Those of its own are its own business.
    pub(super) fn forgets_for(&mut self, domain: u64) -> bool {
        self.controls.ibpb && core::mem::replace(&mut self.last_domain, domain) != domain
    }

    /// What SPEC_CTRL must be written with at the entry and at the exit.
    pub(super) fn spec_ctrl_writes(&self, vcpu: &SpecVcpu) -> (Option<u64>, Option<u64>) {
        let c = &self.controls;
        let Some(host) = c.host else {
            return (None, None);
        };
        let ssbd = if c.virt_ssbd {
            0
        } else {
            vcpu.virt_spec_ctrl & SSBD
        };
        let guest = vcpu.spec_ctrl | ssbd;
        let again = c.rewrite && host & IBRS != 0;
        (
            (guest != host).then_some(guest),
            (guest != host || again).then_some(host),
        )
    }

    /// The last thing before an entry.
    pub(crate) fn enter(&self, vcpu: &SpecVcpu) {
        let c = &self.controls;
        if c.l1d_flush {
            command(MSR_FLUSH_CMD);
        }
        let ssbd = vcpu.virt_spec_ctrl & SSBD;
        // SAFETY: the register exists, and the guest's bits were checked when it wrote them.
        unsafe {
            if let Some(guest) = self.spec_ctrl_writes(vcpu).0 {
                wrmsr(MSR_SPEC_CTRL, guest);
            }
            if c.virt_ssbd && ssbd != 0 {
                wrmsr(MSR_VIRT_SPEC_CTRL, ssbd);
            }
        }
    }

    /// The first thing after an exit.
    pub(crate) fn leave(&self, vcpu: &SpecVcpu) {
        let c = &self.controls;
        // SAFETY: the hypervisor's own values again.
        unsafe {
            if let Some(host) = self.spec_ctrl_writes(vcpu).1 {
                wrmsr(MSR_SPEC_CTRL, host);
            }
            if c.virt_ssbd && vcpu.virt_spec_ctrl & SSBD != 0 {
                wrmsr(MSR_VIRT_SPEC_CTRL, 0);
            }
        }
        if c.ibpb_on_exit {
            command(MSR_PRED_CMD);
        }
    }
}

/// PRED_CMD or FLUSH_CMD, where the CPU has it: also for a guest that asks.
pub fn command(msr: u32) {
    if matches!(msr, MSR_PRED_CMD | MSR_FLUSH_CMD) {
        // SAFETY: forgets predictions, or writes the first-level cache back: no effect on values.
        let _ = unsafe { wrmsr_safe(msr, 1) };
    }
}

/// On AMD's CPUs LFENCE waits for all before it only if this bit is set.
pub fn serialise_lfence() {
    if let Some(value) = rdmsr_safe(MSR_DE_CFG).filter(|value| value & DE_CFG_LFENCE_SERIALISE == 0)
    {
        // SAFETY: the meaning of one instruction, made stricter. An emulator may refuse.
        let _ = unsafe { wrmsr_safe(MSR_DE_CFG, value | DE_CFG_LFENCE_SERIALISE) };
    }
}
