//! Registers and addresses as the decoder names them.

use iced_x86::{Instruction, OpKind, Register};
use oxen_types::Vaddr;

use crate::backend::{CpuMode, Gprs, SegReg, VcpuEmulation};

/// A general register, or the part of one that an instruction names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct GprPart {
    number: u8,
    /// 1, 2, 4 or 8 bytes.
    bytes: u8,
    /// AH, CH, DH, BH.
    high: bool,
}

/// AL, AX, EAX or RAX.
pub(super) fn accumulator(bytes: u8) -> GprPart {
    GprPart {
        number: 0,
        bytes,
        high: false,
    }
}

pub(super) const RCX: u8 = 1;
pub(super) const RSI: u8 = 6;
pub(super) const RDI: u8 = 7;

/// A whole register, at the size of an address.
pub(super) fn address_part(number: u8, bytes: u8) -> GprPart {
    GprPart {
        number,
        bytes,
        high: false,
    }
}

/// The decoder numbers each class in encoding order; only the byte registers have a gap.
pub(super) fn part(register: Register) -> Option<GprPart> {
    let n = register as usize;
    let (first, bytes) = [
        (Register::AL, 1),
        (Register::AX, 2),
        (Register::EAX, 4),
        (Register::RAX, 8),
    ]
    .into_iter()
    .map(|(r, bytes)| (r as usize, bytes))
    .rfind(|&(first, _)| n >= first)?;
    let index = (n - first) as u8;
    match (bytes, index) {
        (1, 4..=7) => Some(GprPart {
            number: index - 4,
            bytes,
            high: true,
        }),
        (1, 8..=19) => Some(GprPart {
            number: index - 4,
            bytes,
            high: false,
        }),
        (_, 0..=15) => Some(GprPart {
            number: index,
            bytes,
            high: false,
        }),
        _ => None,
    }
}

impl GprPart {
    pub(super) fn bytes(self) -> u8 {
        self.bytes
    }
}

pub(super) fn read(gprs: &Gprs, part: GprPart) -> u64 {
    let value = gprs.get(part.number);
    match (part.bytes, part.high) {
        (1, true) => value >> 8 & 0xff,
        (1, false) => value & 0xff,
        (2, _) => value & 0xffff,
        (4, _) => value & 0xffff_ffff,
        _ => value,
    }
}

/// A write of 32 bits clears the upper half; narrower ones keep the rest.
pub(super) fn write(gprs: &mut Gprs, part: GprPart, value: u64) {
    let old = gprs.get(part.number);
    let new = match (part.bytes, part.high) {
        (1, true) => old & !0xff00 | (value & 0xff) << 8,
        (1, false) => old & !0xff | value & 0xff,
        (2, _) => old & !0xffff | value & 0xffff,
        (4, _) => value & 0xffff_ffff,
        _ => value,
    };
    gprs.set(part.number, new);
}

/// The linear address of a memory operand.
pub(super) fn address(vcpu: &dyn VcpuEmulation, insn: &Instruction) -> Option<Vaddr> {
    let offset = |register: Register| match register {
        Register::None => Some((0, 0)),
        r => part(r).map(|p| (read(vcpu.gprs(), p), p.bytes())),
    };
    // The decoder has added RIP to the displacement already.
    let relative = matches!(insn.memory_base(), Register::RIP | Register::EIP);
    let (base, base_bytes) = if relative {
        (0, 0)
    } else {
        offset(insn.memory_base())?
    };
    let (index, index_bytes) = offset(insn.memory_index())?;
    let scaled = index.wrapping_mul(u64::from(insn.memory_index_scale()));
    let effective = insn
        .memory_displacement64()
        .wrapping_add(base)
        .wrapping_add(scaled);
    let bytes = match base_bytes.max(index_bytes) {
        0 => match vcpu.execution().mode() {
            CpuMode::Long64 => 8,
            _ => insn.memory_displ_size() as u8,
        },
        bytes => bytes,
    };
    linear(vcpu, insn.memory_segment(), truncate(effective, bytes))
}

/// The linear address of an offset in a segment.
pub(super) fn linear(vcpu: &dyn VcpuEmulation, segment: Register, offset: u64) -> Option<Vaddr> {
    let segment = match segment {
        Register::ES => SegReg::Es,
        Register::CS => SegReg::Cs,
        Register::SS => SegReg::Ss,
        Register::DS => SegReg::Ds,
        Register::FS => SegReg::Fs,
        Register::GS => SegReg::Gs,
        _ => return None,
    };
    let base = vcpu.segment(segment).base;
    Some(Vaddr::new(match (vcpu.execution().mode(), segment) {
        (CpuMode::Long64, SegReg::Fs | SegReg::Gs) => base.wrapping_add(offset),
        (CpuMode::Long64, _) => offset,
        _ => base.wrapping_add(offset) & 0xffff_ffff,
    }))
}

pub(super) fn truncate(value: u64, bytes: u8) -> u64 {
    match bytes {
        1 => value & 0xff,
        2 => value & 0xffff,
        4 => value & 0xffff_ffff,
        _ => value,
    }
}

/// The immediate at operand `n`, sign-extended as the instruction says.
pub(super) fn immediate(insn: &Instruction, n: u32) -> Option<u64> {
    Some(match insn.op_kind(n) {
        OpKind::Immediate8 => u64::from(insn.immediate8()),
        OpKind::Immediate16 => u64::from(insn.immediate16()),
        OpKind::Immediate32 => u64::from(insn.immediate32()),
        OpKind::Immediate64 => insn.immediate64(),
        OpKind::Immediate8to16 => insn.immediate8to16() as u64,
        OpKind::Immediate8to32 => insn.immediate8to32() as u64,
        OpKind::Immediate8to64 => insn.immediate8to64() as u64,
        OpKind::Immediate32to64 => insn.immediate32to64() as u64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_by_class() {
        let p = |r| part(r).map(|p| (p.number, p.bytes, p.high));
        assert_eq!(p(Register::AL), Some((0, 1, false)));
        assert_eq!(p(Register::BH), Some((3, 1, true)));
        assert_eq!(p(Register::SPL), Some((4, 1, false)));
        assert_eq!(p(Register::R15L), Some((15, 1, false)));
        assert_eq!(p(Register::AX), Some((0, 2, false)));
        assert_eq!(p(Register::R8W), Some((8, 2, false)));
        assert_eq!(p(Register::EDI), Some((7, 4, false)));
        assert_eq!(p(Register::R15), Some((15, 8, false)));
        assert_eq!(
            [
                p(Register::RIP),
                p(Register::ES),
                p(Register::XMM0),
                p(Register::None)
            ],
            [None; 4]
        );
    }

    #[test]
    fn partial_writes() {
        let mut g = Gprs {
            rax: 0x1122_3344_5566_7788,
            ..Default::default()
        };
        write(&mut g, part(Register::AH).unwrap(), 0xaa);
        assert_eq!(g.rax, 0x1122_3344_5566_aa88);
        write(&mut g, part(Register::AX).unwrap(), 0xbbcc);
        assert_eq!(g.rax, 0x1122_3344_5566_bbcc);
        write(&mut g, part(Register::EAX).unwrap(), 1);
        assert_eq!(g.rax, 1);
    }
}
