//! The decisions carried out on one physical CPU.
#![allow(unsafe_code, reason = "writes registers that control speculation")]

use core::sync::atomic::{AtomicU64, Ordering};

use oxen_arch::cpu::msr::{rdmsr, rdmsr_safe, wrmsr, wrmsr_safe};

use super::errata::Fix;
use super::switch::{Switch, entry, exit};
use super::{Controls, IBRS, MSR_FLUSH_CMD, MSR_PRED_CMD, MSR_SPEC_CTRL, MSR_VIRT_SPEC_CTRL, SSBD};
use crate::x86::MSR_EFER;

const EFER_AIBRSE: u64 = 1 << 21;

/// A vcpu's own values.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SpecVcpu {
    pub spec_ctrl: u64,
    /// VIRT_SPEC_CTRL: SSBD or nothing.
    pub virt_spec_ctrl: u64,
    /// Its last stay on a CPU; no other has the number.
    pub(super) stay: u64,
}

/// The state of speculation controls that one physical CPU keeps.
#[derive(Debug)]
pub struct SpecCpu {
    pub(super) controls: Controls,
    /// The stay whose branches the predictors may know.
    pub(super) last_stay: u64,
}

impl SpecCpu {
    /// On the CPU that runs this: the hypervisor's own values from now on.
    pub fn enable(controls: &Controls) -> Self {
        for fix in controls.errata.fixes() {
            if !apply(&fix) && !controls.errata.may_fail {
                log::error!(
                    "OPEN: register {:#x} does not take the bits that mend this CPU",
                    fix.msr
                );
            }
        }
        // SAFETY: `decide` set what the CPU reports to have; none of it takes a right away.
        unsafe {
            if let Some(host) = controls.host {
                wrmsr(MSR_SPEC_CTRL, host);
            }
            if controls.automatic_ibrs {
                wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_AIBRSE);
            }
        }
        Self {
            controls: *controls,
            last_stay: 0,
        }
    }

    /// A vcpu is about to run here.
    pub(crate) fn switch_to(&mut self, vcpu: &mut SpecVcpu) {
        if self.forgets_for(vcpu) {
            command(MSR_PRED_CMD);
        }
    }

    /// Are predictions to be forgotten before it? Not if it ran here last and nowhere since. A
    /// guest's other vcpus count as others, and so does its own earlier stay: its kernel may hold
    /// two tasks apart by an IBPB of its own, which reached the CPU where it ran then (XSA-479).
    pub(super) fn forgets_for(&mut self, vcpu: &mut SpecVcpu) -> bool {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        if vcpu.stay != 0 && self.last_stay == vcpu.stay {
            return false;
        }
        vcpu.stay = NEXT.fetch_add(1, Ordering::Relaxed);
        self.last_stay = vcpu.stay;
        self.controls.ibpb
    }

    /// The values to write to SPEC_CTRL at the entry and at the exit.
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

    /// The work of the world switch for this vcpu; `trusted` is one of dom0's.
    pub(crate) fn switch(&self, vcpu: &SpecVcpu, trusted: bool) -> Switch {
        let c = &self.controls;
        let (guest, host) = self.spec_ctrl_writes(vcpu);
        let flush = c.ibpb_on_exit && (c.ibpb_on_exit_of_dom0 || !trusted);
        let bit = |on: bool, bit: u32| u32::from(on) * bit;
        Switch {
            entry: bit(guest.is_some(), entry::SPEC_CTRL)
                | bit(c.l1d_flush, entry::L1D_FLUSH)
                | bit(c.div, entry::DIV)
                | bit(c.verw, entry::VERW),
            exit: bit(flush, exit::IBPB)
                | bit(host.is_some(), exit::SPEC_CTRL)
                | bit(c.rsb, exit::RSB),
            guest: guest.unwrap_or(0),
            host: host.unwrap_or(0),
        }
    }

    /// Before an entry: what is no matter of order.
    pub(crate) fn enter(&self, vcpu: &SpecVcpu) {
        self.write_virt(vcpu, SSBD);
    }

    /// After an exit.
    pub(crate) fn leave(&self, vcpu: &SpecVcpu) {
        self.write_virt(vcpu, 0);
    }

    fn write_virt(&self, vcpu: &SpecVcpu, value: u64) {
        if self.controls.virt_ssbd && vcpu.virt_spec_ctrl & SSBD != 0 {
            // SAFETY: the register exists, and holds one bit.
            unsafe { wrmsr(MSR_VIRT_SPEC_CTRL, value) };
        }
    }
}

/// On the CPU that runs this. False if it refuses.
fn apply(fix: &Fix) -> bool {
    let holds = || rdmsr_safe(fix.msr).is_some_and(|now| fix.applied(now).is_none());
    match rdmsr_safe(fix.msr).and_then(|value| fix.applied(value)) {
        // SAFETY: the bits that the vendor names for this CPU; none changes what instructions do.
        Some(new) => unsafe { wrmsr_safe(fix.msr, new) && holds() },
        None => holds(),
    }
}

/// Whether PRED_CMD takes a value.
pub(crate) fn takes(msr: u32, value: u64) -> bool {
    // SAFETY: forgets predictions: no effect on values.
    msr == MSR_PRED_CMD && unsafe { wrmsr_safe(msr, value) }
}

/// PRED_CMD or FLUSH_CMD, where the CPU has it: also for a guest that asks.
pub fn command(msr: u32) {
    if matches!(msr, MSR_PRED_CMD | MSR_FLUSH_CMD) {
        // SAFETY: forgets predictions, or writes the first-level cache back: no effect on values.
        let _ = unsafe { wrmsr_safe(msr, 1) };
    }
}
