//! DR0 to DR3: the CPU has one set, which the guest gets when it first touches a debug register
//! or comes with breakpoints enabled. DR6 and DR7 are in the VMCB.

use super::vcpu::SvmVcpu;
use super::vmcb::Clean;
use super::{insn, intercept};

impl SvmVcpu {
    pub(super) fn load_debug_registers(&mut self) {
        let [dr0, dr1, dr2, dr3] = self.dr;
        insn::write_dr0(dr0);
        insn::write_dr1(dr1);
        insn::write_dr2(dr2);
        insn::write_dr3(dr3);
        self.dr_loaded = true;
        self.set_dr_intercepts(0);
    }

    pub(super) fn save_debug_registers(&mut self) {
        self.dr = [
            insn::read_dr0(),
            insn::read_dr1(),
            insn::read_dr2(),
            insn::read_dr3(),
        ];
        self.dr_loaded = false;
        self.set_dr_intercepts(intercept::DR_ALL);
    }

    pub(super) fn set_dr_intercepts(&mut self, mask: u16) {
        self.vmcb.control.dr_read = mask;
        self.vmcb.control.dr_write = mask;
        self.clean.remove(Clean::INTERCEPTS);
    }

    pub(super) fn set_dr(&mut self, index: usize, value: u64) {
        let loaded = self.dr_loaded;
        if loaded {
            self.save_debug_registers();
        }
        if let Some(slot) = self.dr.get_mut(index) {
            *slot = value;
        }
        if loaded {
            self.load_debug_registers();
        }
    }

    pub(super) fn dr(&self, index: usize) -> u64 {
        match (self.dr_loaded, index) {
            (false, _) => self.dr.get(index).copied().unwrap_or(0),
            (true, 0) => insn::read_dr0(),
            (true, 1) => insn::read_dr1(),
            (true, 2) => insn::read_dr2(),
            (true, _) => insn::read_dr3(),
        }
    }
}
