//! The registers of a guest on VT-x: in the VMCS (through its cache), or kept here where it has no
//! field.

use super::super::{control, segment, state};
use super::VmxVcpu;
use crate::backend::{Execution, Gprs, Reg, SegReg, Segment, VcpuRegisters};
use crate::fpu::Fpu;
use crate::x86::{DR7_RESET, RFLAGS_FIXED};

impl VcpuRegisters for VmxVcpu {
    fn gprs(&self) -> &Gprs {
        &self.regs
    }

    fn gprs_mut(&mut self) -> &mut Gprs {
        &mut self.regs
    }

    fn get(&self, reg: Reg) -> u64 {
        if let Some(value) = self.shadowed.as_ref().and_then(|guest| guest.get(reg)) {
            return value;
        }
        let s = &self.state;
        match reg {
            Reg::Rip => s.get(state::RIP),
            Reg::Rflags => s.get(state::RFLAGS),
            Reg::Cr0 => control::cr0(s, &self.caps),
            Reg::Cr2 => self.cr2,
            Reg::Cr3 => s.get(state::CR3),
            Reg::Cr4 => control::cr4(s, &self.caps),
            Reg::Cr8 => self.apic.cr8(),
            Reg::Dr0 => self.dr(0),
            Reg::Dr1 => self.dr(1),
            Reg::Dr2 => self.dr(2),
            Reg::Dr3 => self.dr(3),
            Reg::Dr6 => self.dr6(),
            Reg::Dr7 => s.get(state::DR7),
            Reg::Xcr0 => self.fpu.xcr0(),
            Reg::Efer => s.get(state::EFER),
            Reg::Star => self.msr(0),
            Reg::Lstar => self.msr(1),
            Reg::Cstar => self.msr(2),
            Reg::Sfmask => self.msr(3),
            Reg::KernelGsBase => self.msr(4),
            Reg::SysenterCs => s.get(state::SYSENTER_CS),
            Reg::SysenterEsp => s.get(state::SYSENTER_ESP),
            Reg::SysenterEip => s.get(state::SYSENTER_EIP),
            Reg::Pat => s.get(state::PAT),
            Reg::TscAux => self.tsc_aux,
            Reg::SpecCtrl => self.spec.spec_ctrl,
            Reg::VirtSpecCtrl => self.spec.virt_spec_ctrl,
        }
    }

    fn set(&mut self, reg: Reg, value: u64) {
        if matches!(reg, Reg::Cr0 | Reg::Cr3 | Reg::Cr4 | Reg::Efer) {
            self.flush = true;
        }
        if self.set_shadowed(reg, value) {
            return;
        }
        let s = &mut self.state;
        match reg {
            Reg::Rip => s.set(state::RIP, value),
            Reg::Rflags => s.set(state::RFLAGS, value | RFLAGS_FIXED),
            Reg::Cr0 => control::set_cr0(s, &self.caps, value),
            Reg::Cr2 => self.cr2 = value,
            Reg::Cr3 => s.set(state::CR3, value),
            Reg::Cr4 => control::set_cr4(s, &self.caps, value),
            Reg::Cr8 => self.apic.set_cr8(value),
            Reg::Dr0 => self.set_dr(0, value),
            Reg::Dr1 => self.set_dr(1, value),
            Reg::Dr2 => self.set_dr(2, value),
            Reg::Dr3 => self.set_dr(3, value),
            Reg::Dr6 => self.set_dr6(value),
            // Entries refuse DR7 with bits set in the upper half.
            Reg::Dr7 => s.set(state::DR7, value & 0xffff_ffff | DR7_RESET),
            Reg::Xcr0 if self.loaded => self.fpu.set_xcr0_loaded(value),
            Reg::Xcr0 => self.fpu.set_xcr0(value),
            Reg::Efer => s.set(state::EFER, value),
            Reg::Star => self.set_msr(0, value),
            Reg::Lstar => self.set_msr(1, value),
            Reg::Cstar => self.set_msr(2, value),
            Reg::Sfmask => self.set_msr(3, value),
            Reg::KernelGsBase => self.set_msr(4, value),
            Reg::SysenterCs => s.set(state::SYSENTER_CS, value),
            Reg::SysenterEsp => s.set(state::SYSENTER_ESP, value),
            Reg::SysenterEip => s.set(state::SYSENTER_EIP, value),
            Reg::Pat => s.set(state::PAT, value),
            Reg::TscAux => {
                self.tsc_aux = value;
                if self.loaded {
                    self.write_tsc_aux();
                }
            }
            Reg::SpecCtrl => self.spec.spec_ctrl = value,
            Reg::VirtSpecCtrl => self.spec.virt_spec_ctrl = value,
        }
    }

    fn segment(&self, reg: SegReg) -> Segment {
        segment::get(&self.state, reg)
    }

    fn set_segment(&mut self, reg: SegReg, value: Segment) {
        segment::set(&mut self.state, reg, value);
    }

    fn cpl(&self) -> u8 {
        segment::cpl(&self.state)
    }

    fn execution(&self) -> Execution {
        Execution {
            rip: self.get(Reg::Rip),
            rflags: self.get(Reg::Rflags),
            cr0: self.get(Reg::Cr0),
            cr3: self.get(Reg::Cr3),
            cr4: self.get(Reg::Cr4),
            efer: self.get(Reg::Efer),
            cs: self.segment(SegReg::Cs),
        }
    }

    fn fpu(&self) -> &Fpu {
        &self.fpu
    }

    fn fpu_mut(&mut self) -> &mut Fpu {
        &mut self.fpu
    }

    fn tsc_offset(&self) -> u64 {
        self.state.get(state::TSC_OFFSET)
    }

    fn set_tsc_offset(&mut self, offset: u64) {
        self.state.set(state::TSC_OFFSET, offset);
    }
}
