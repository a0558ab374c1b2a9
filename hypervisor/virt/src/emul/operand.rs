//! Registers and addresses as the decoder names them.

use oxen_types::Vaddr;

use super::encoding::Encoding;
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

/// A register by its number. Without a REX prefix, 4 to 7 are the second bytes of the first four.
pub(super) fn part(number: u8, bytes: u8, rex: bool) -> GprPart {
    let high = bytes == 1 && !rex && matches!(number, 4..=7);
    GprPart {
        number: if high { number - 4 } else { number },
        bytes,
        high,
    }
}

#[cfg(test)]
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

/// The linear address of a memory operand. `None` if the instruction has none.
pub(super) fn address(vcpu: &dyn VcpuEmulation, encoding: &Encoding) -> Option<Vaddr> {
    let (place, prefixes) = (encoding.place?, &encoding.prefixes);
    let offset = truncate(place.offset(vcpu.gprs()), prefixes.address_bytes);
    Some(linear(vcpu, place.segment(prefixes), offset))
}

/// The linear address of an offset in a segment.
pub(super) fn linear(vcpu: &dyn VcpuEmulation, segment: SegReg, offset: u64) -> Vaddr {
    let base = vcpu.segment(segment).base;
    Vaddr::new(match (vcpu.execution().mode(), segment) {
        (CpuMode::Long64, SegReg::Fs | SegReg::Gs) => base.wrapping_add(offset),
        (CpuMode::Long64, _) => offset,
        _ => base.wrapping_add(offset) & 0xffff_ffff,
    })
}

pub(super) fn truncate(value: u64, bytes: u8) -> u64 {
    match bytes {
        1 => value & 0xff,
        2 => value & 0xffff,
        4 => value & 0xffff_ffff,
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_by_number() {
        let p = |number, bytes, rex| {
            let p = part(number, bytes, rex);
            (p.number, p.bytes, p.high)
        };
        assert_eq!(p(0, 1, false), (0, 1, false));
        assert_eq!(p(7, 1, false), (3, 1, true));
        assert_eq!(p(4, 1, true), (4, 1, false));
        assert_eq!(p(15, 1, true), (15, 1, false));
        assert_eq!(p(7, 4, false), (7, 4, false));
    }

    #[test]
    fn partial_writes() {
        let mut g = Gprs {
            rax: 0x1122_3344_5566_7788,
            ..Default::default()
        };
        write(&mut g, part(4, 1, false), 0xaa);
        assert_eq!(g.rax, 0x1122_3344_5566_aa88);
        write(&mut g, part(0, 2, false), 0xbbcc);
        assert_eq!(g.rax, 0x1122_3344_5566_bbcc);
        write(&mut g, part(0, 4, false), 1);
        assert_eq!(g.rax, 1);
    }
}
