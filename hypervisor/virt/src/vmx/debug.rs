//! DR0 to DR3 and DR6: the CPU has one set, which the guest gets when it first touches a debug
//! register or comes with breakpoints enabled. DR7 is in the VMCS.
#![allow(unsafe_code, reason = "writes DR6, which only reports")]

use oxen_arch::cpu::regs;
use x86_64::registers::debug::{DebugAddressRegister, Dr0, Dr1, Dr2, Dr3, Dr6};

use super::caps::proc;
use super::state;
use super::vcpu::VmxVcpu;

impl VmxVcpu {
    pub(super) fn load_debug_registers(&mut self) {
        let [dr0, dr1, dr2, dr3] = self.dr;
        // Addresses of breakpoints, inert in the hypervisor: an exit clears DR7.
        Dr0::write(dr0);
        Dr1::write(dr1);
        Dr2::write(dr2);
        Dr3::write(dr3);
        // SAFETY: `set_dr6` keeps the upper half zero.
        unsafe { regs::set_dr6(self.dr6) };
        self.dr_loaded = true;
        let exits = u64::from(proc::MOV_DR);
        self.state.change(state::PROC_CONTROLS, exits, false);
    }

    pub(super) fn save_debug_registers(&mut self) {
        self.dr = [Dr0::read(), Dr1::read(), Dr2::read(), Dr3::read()];
        self.dr6 = Dr6::read_raw();
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
            (true, 0) => Dr0::read(),
            (true, 1) => Dr1::read(),
            (true, 2) => Dr2::read(),
            (true, _) => Dr3::read(),
        }
    }

    pub(super) fn dr6(&self) -> u64 {
        if self.dr_loaded {
            Dr6::read_raw()
        } else {
            self.dr6
        }
    }
}
