//! DR0 to DR3 and DR6: the CPU has one set, which the guest gets when it first touches a debug register
//! or comes with breakpoints enabled. DR7 is in the VMCS.
#![allow(
    unsafe_code,
    reason = "writes debug registers, inert while the host's DR7 enables none"
)]

use oxen_arch::cpu::regs;

use super::caps::proc;
use super::state;
use super::vcpu::VmxVcpu;

impl VmxVcpu {
    pub(super) fn load_debug_registers(&mut self) {
        let [dr0, dr1, dr2, dr3] = self.dr;
        // SAFETY: addresses of breakpoints, and status bits; an exit clears DR7.
        unsafe {
            regs::set_dr0(dr0);
            regs::set_dr1(dr1);
            regs::set_dr2(dr2);
            regs::set_dr3(dr3);
            regs::set_dr6(self.dr6);
        }
        self.dr_loaded = true;
        let exits = u64::from(proc::MOV_DR);
        self.state.change(state::PROC_CONTROLS, exits, false);
    }

    pub(super) fn save_debug_registers(&mut self) {
        self.dr = [regs::dr0(), regs::dr1(), regs::dr2(), regs::dr3()];
        self.dr6 = regs::dr6();
        self.dr_loaded = false;
        let exits = u64::from(proc::MOV_DR);
        self.state.change(state::PROC_CONTROLS, exits, true);
    }

    pub(super) fn set_dr(&mut self, index: usize, value: u64) {
        self.with_dr_saved(|vcpu| {
            if let Some(slot) = vcpu.dr.get_mut(index) {
                *slot = value;
            }
        });
    }

    pub(super) fn set_dr6(&mut self, value: u64) {
        // MOV refuses an upper half, and so would `load_debug_registers`.
        self.with_dr_saved(|vcpu| vcpu.dr6 = value & 0xffff_ffff);
    }

    fn with_dr_saved(&mut self, change: impl FnOnce(&mut Self)) {
        let loaded = self.dr_loaded;
        if loaded {
            self.save_debug_registers();
        }
        change(self);
        if loaded {
            self.load_debug_registers();
        }
    }

    pub(super) fn dr(&self, index: usize) -> u64 {
        match (self.dr_loaded, index) {
            (false, _) => self.dr.get(index).copied().unwrap_or(0),
            (true, 0) => regs::dr0(),
            (true, 1) => regs::dr1(),
            (true, 2) => regs::dr2(),
            (true, _) => regs::dr3(),
        }
    }

    pub(super) fn dr6(&self) -> u64 {
        if self.dr_loaded {
            regs::dr6()
        } else {
            self.dr6
        }
    }
}
