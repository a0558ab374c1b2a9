//! The states that a vcpu starts in, the same for every vendor.

use crate::backend::{Reg, SegReg, Segment, VcpuBackend};
use crate::x86::{CR0_ET, CR0_PE};

/// Waits for nothing: the state after a start-up IPI, real mode at `vector` * 4 KiB (SDM volume 3,
/// 9.4). INIT must have come before.
pub fn sipi(vcpu: &mut dyn VcpuBackend, vector: u8) {
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
