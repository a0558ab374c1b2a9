//! The states that a vcpu starts in, the same for every vendor.

use crate::backend::{Gprs, Reg, SegReg, Segment, VcpuBackend, VcpuRegisters};
use crate::x86::{CR0_ET, CR0_PE, DR6_RESET, DR7_RESET, PAT_RESET};

/// The registers after INIT, and those that only a power-on resets if `cold` (SDM volume 3, table
/// 10-1). What a back end keeps besides registers is its own to reset.
pub(crate) fn init(vcpu: &mut dyn VcpuRegisters, cold: bool) {
    *vcpu.gprs_mut() = Gprs::default();
    let data = Segment::new(0, 0x93, 0xffff, 0);
    for reg in [SegReg::Es, SegReg::Ss, SegReg::Ds, SegReg::Fs, SegReg::Gs] {
        vcpu.set_segment(reg, data);
    }
    vcpu.set_segment(SegReg::Cs, Segment::new(0xf000, 0x9b, 0xffff, 0xffff_0000));
    vcpu.set_segment(SegReg::Ldtr, Segment::new(0, 0x82, 0xffff, 0));
    vcpu.set_segment(SegReg::Tr, Segment::new(0, 0x8b, 0xffff, 0));
    vcpu.set_segment(SegReg::Gdtr, Segment::new(0, 0, 0xffff, 0));
    vcpu.set_segment(SegReg::Idtr, Segment::new(0, 0, 0xffff, 0));
    // Not CD and NW, which a CPU has after reset: memory is cached for guests all the time.
    for reg in [
        Reg::Cr0,
        Reg::Cr2,
        Reg::Cr3,
        Reg::Cr4,
        Reg::Cr8,
        Reg::Efer,
        Reg::Rflags,
        Reg::Dr0,
        Reg::Dr1,
        Reg::Dr2,
        Reg::Dr3,
    ] {
        vcpu.set(reg, 0);
    }
    vcpu.set(Reg::Rip, 0xfff0);
    vcpu.set(Reg::Dr6, DR6_RESET);
    vcpu.set(Reg::Dr7, DR7_RESET);
    if cold {
        for reg in [
            Reg::Star,
            Reg::Lstar,
            Reg::Cstar,
            Reg::Sfmask,
            Reg::KernelGsBase,
            Reg::SysenterCs,
            Reg::SysenterEsp,
            Reg::SysenterEip,
            Reg::TscAux,
            Reg::SpecCtrl,
            Reg::VirtSpecCtrl,
        ] {
            vcpu.set(reg, 0);
        }
        vcpu.set(Reg::Pat, PAT_RESET);
    }
}

/// Waits for nothing: the state after a start-up IPI, real mode at `vector` * 4 KiB (SDM volume 3,
/// 9.4). INIT must have come before.
pub fn sipi(vcpu: &mut dyn VcpuRegisters, vector: u8) {
    let base = u64::from(vector) << 12;
    vcpu.set_segment(
        SegReg::Cs,
        Segment::new(u16::from(vector) << 8, 0x9b, 0xffff, base),
    );
    vcpu.set(Reg::Rip, 0);
}

/// The PVH entry (Xen's docs/misc/pvh.pandoc): flat 32-bit protected mode, paging off, EBX the
/// guest physical address of the start info.
pub fn pvh(vcpu: &mut dyn VcpuBackend, entry: u32, start_info: u32) {
    vcpu.reset(true);
    vcpu.set(Reg::Cr0, CR0_PE | CR0_ET);
    vcpu.set(Reg::Cr4, 0);
    vcpu.set(Reg::Efer, 0);
    vcpu.set_segment(SegReg::Cs, Segment::new(0, 0xc9b, u32::MAX, 0));
    for reg in [SegReg::Ds, SegReg::Es, SegReg::Ss, SegReg::Fs, SegReg::Gs] {
        vcpu.set_segment(reg, Segment::new(0, 0xc93, u32::MAX, 0));
    }
    vcpu.set_segment(SegReg::Tr, Segment::new(0, 0x8b, 0x67, 0));
    vcpu.set(Reg::Rip, u64::from(entry));
    vcpu.gprs_mut().rbx = u64::from(start_info);
}
