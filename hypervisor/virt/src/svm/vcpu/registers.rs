//! The registers of a guest on AMD-V: in the VMCB, or kept here where the VMCB has no field.

use super::super::intercept;
use super::super::vmcb::{Clean, VmcbSeg, int_ctl};
use super::SvmVcpu;
use crate::backend::{Execution, Gprs, Reg, SegReg, Segment, VcpuRegisters};
use crate::fpu::Fpu;
use crate::x86::{CR0_ET, CR4_MCE, DR7_RESET, EFER_SVME, RFLAGS_FIXED};

impl SvmVcpu {
    fn seg(&self, reg: SegReg) -> &VmcbSeg {
        let s = &self.vmcb.save;
        match reg {
            SegReg::Es => &s.es,
            SegReg::Cs => &s.cs,
            SegReg::Ss => &s.ss,
            SegReg::Ds => &s.ds,
            SegReg::Fs => &s.fs,
            SegReg::Gs => &s.gs,
            SegReg::Ldtr => &s.ldtr,
            SegReg::Tr => &s.tr,
            SegReg::Gdtr => &s.gdtr,
            SegReg::Idtr => &s.idtr,
        }
    }
}

impl VcpuRegisters for SvmVcpu {
    fn gprs(&self) -> &Gprs {
        &self.regs
    }

    fn gprs_mut(&mut self) -> &mut Gprs {
        &mut self.regs
    }

    fn get(&self, reg: Reg) -> u64 {
        let (c, s) = (&self.vmcb.control, &self.vmcb.save);
        match reg {
            Reg::Rip => s.rip,
            Reg::Rflags => s.rflags,
            Reg::Cr0 => self.shadowed.map_or(s.cr0, |g| g.cr0),
            Reg::Cr2 => s.cr2,
            Reg::Cr3 => self.shadowed.map_or(s.cr3, |g| g.cr3),
            Reg::Cr4 => self.shadowed.map_or(self.cr4, |g| g.cr4),
            Reg::Cr8 => c.int_ctl & int_ctl::TPR_MASK,
            Reg::Dr0 => self.dr(0),
            Reg::Dr1 => self.dr(1),
            Reg::Dr2 => self.dr(2),
            Reg::Dr3 => self.dr(3),
            Reg::Dr6 => s.dr6,
            Reg::Dr7 => s.dr7,
            Reg::Xcr0 if self.loaded && self.quirks.xsetbv_runs => self.fpu.xcr0_of_cpu(),
            Reg::Xcr0 => self.fpu.xcr0(),
            Reg::Efer => self.shadowed.map_or(s.efer & !EFER_SVME, |g| g.efer),
            Reg::Star => s.star,
            Reg::Lstar => s.lstar,
            Reg::Cstar => s.cstar,
            Reg::Sfmask => s.sfmask,
            Reg::KernelGsBase => s.kernel_gs_base,
            Reg::SysenterCs => s.sysenter_cs,
            Reg::SysenterEsp => s.sysenter_esp,
            Reg::SysenterEip => s.sysenter_eip,
            Reg::Pat => s.pat,
            Reg::TscAux => self.tsc_aux,
            Reg::SpecCtrl => self.spec.spec_ctrl,
            Reg::VirtSpecCtrl => self.spec.virt_spec_ctrl,
        }
    }

    fn set(&mut self, reg: Reg, value: u64) {
        let (c, s) = (&mut self.vmcb.control, &mut self.vmcb.save);
        let dirty = match reg {
            Reg::Cr0 | Reg::Cr3 | Reg::Cr4 | Reg::Efer => Clean::CRX,
            Reg::Cr2 => Clean::CR2,
            Reg::Cr8 => Clean::TPR,
            Reg::Dr6 | Reg::Dr7 => Clean::DRX,
            Reg::Pat => Clean::NESTED,
            _ => Clean::empty(),
        };
        self.clean.remove(dirty);
        if let Some(guest) = &mut self.shadowed
            && guest.set(reg, value)
        {
            return guest.apply(s);
        }
        match reg {
            Reg::Rip => s.rip = value,
            Reg::Rflags => s.rflags = value | RFLAGS_FIXED,
            Reg::Cr0 => s.cr0 = value | CR0_ET,
            Reg::Cr2 => s.cr2 = value,
            Reg::Cr3 => s.cr3 = value,
            Reg::Cr4 => {
                self.cr4 = value;
                // A machine check while MCE is off shuts the guest down, and the host learns
                // nothing of the error (APM volume 2, 15.12.18). Reads exit while the guest's own
                // MCE is off.
                s.cr4 = value | CR4_MCE;
                let reads = if value & CR4_MCE == 0 {
                    intercept::CR4
                } else {
                    0
                };
                if c.cr_read != reads {
                    c.cr_read = reads;
                    self.clean.remove(Clean::INTERCEPTS);
                }
            }
            Reg::Cr8 => {
                c.int_ctl = c.int_ctl & !int_ctl::TPR_MASK | value & int_ctl::TPR_MASK;
            }
            Reg::Dr0 => self.set_dr(0, value),
            Reg::Dr1 => self.set_dr(1, value),
            Reg::Dr2 => self.set_dr(2, value),
            Reg::Dr3 => self.set_dr(3, value),
            // VMRUN refuses DR6 and DR7 with bits set in the upper half.
            Reg::Dr6 => s.dr6 = value & 0xffff_ffff,
            Reg::Dr7 => s.dr7 = value & 0xffff_ffff | DR7_RESET,
            Reg::Xcr0 if self.loaded => self.fpu.set_xcr0_loaded(value),
            Reg::Xcr0 => self.fpu.set_xcr0(value),
            Reg::Efer => s.efer = value | EFER_SVME,
            Reg::Star => s.star = value,
            Reg::Lstar => s.lstar = value,
            Reg::Cstar => s.cstar = value,
            Reg::Sfmask => s.sfmask = value,
            Reg::KernelGsBase => s.kernel_gs_base = value,
            Reg::SysenterCs => s.sysenter_cs = value,
            Reg::SysenterEsp => s.sysenter_esp = value,
            Reg::SysenterEip => s.sysenter_eip = value,
            Reg::Pat => s.pat = value,
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
        (*self.seg(reg)).into()
    }

    fn set_segment(&mut self, reg: SegReg, segment: Segment) {
        let s = &mut self.vmcb.save;
        let slot = match reg {
            SegReg::Es => &mut s.es,
            SegReg::Cs => &mut s.cs,
            SegReg::Ss => {
                // The VMCB has a field for the CPL, which must equal the DPL of SS.
                s.cpl = (segment.attr >> 5) as u8 & 3;
                &mut s.ss
            }
            SegReg::Ds => &mut s.ds,
            SegReg::Fs => &mut s.fs,
            SegReg::Gs => &mut s.gs,
            SegReg::Ldtr => &mut s.ldtr,
            SegReg::Tr => &mut s.tr,
            SegReg::Gdtr => &mut s.gdtr,
            SegReg::Idtr => &mut s.idtr,
        };
        *slot = segment.into();
        self.clean.remove(match reg {
            SegReg::Gdtr | SegReg::Idtr => Clean::DT,
            _ => Clean::SEG,
        });
    }

    fn cpl(&self) -> u8 {
        self.vmcb.save.cpl
    }

    fn execution(&self) -> Execution {
        let s = &self.vmcb.save;
        let mut state = Execution {
            rip: s.rip,
            rflags: s.rflags,
            cr0: s.cr0,
            cr3: s.cr3,
            cr4: self.cr4,
            efer: s.efer & !EFER_SVME,
            cs: s.cs.into(),
        };
        if let Some(guest) = &self.shadowed {
            (state.cr0, state.cr3) = (guest.cr0, guest.cr3);
            (state.cr4, state.efer) = (guest.cr4, guest.efer);
        }
        state
    }

    fn fpu(&self) -> &Fpu {
        &self.fpu
    }

    fn fpu_mut(&mut self) -> &mut Fpu {
        &mut self.fpu
    }

    fn tsc_offset(&self) -> u64 {
        self.vmcb.control.tsc_offset
    }

    fn set_tsc_offset(&mut self, offset: u64) {
        self.vmcb.control.tsc_offset = offset;
        self.clean.remove(Clean::INTERCEPTS);
    }
}
