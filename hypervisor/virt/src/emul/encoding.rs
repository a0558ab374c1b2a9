//! The encoding of an instruction: prefixes, opcode, ModRM, displacement, immediate (Intel SDM
//! volume 2, chapter 2 and appendix A).
//!
//! This decoder knows the opcodes that the emulator carries out and refuses all others. It reads
//! the bytes of one instruction once, at most 15 of them, and never an address of the guest. The
//! tests compare it with iced-x86: every opcode with every ModRM byte, and random bytes with random
//! prefixes.

use super::alu::Width;
use super::operand::{self, GprPart};
use crate::backend::{CpuMode, Gprs, SegReg};

pub(super) struct Encoding {
    pub(super) len: u8,
    /// An opcode of the two-byte map is 0x0f00 and its second byte.
    pub(super) opcode: u16,
    pub(super) prefixes: Prefixes,
    /// ModRM.reg with REX.R: the register operand, or an extension of the opcode.
    pub(super) reg: u8,
    /// ModRM.rm without REX.B: the second register operand, where `place` is `None`.
    pub(super) rm: u8,
    /// The memory operand. `None` if the operand is a register or implied.
    pub(super) place: Option<MemoryOperand>,
    /// Sign-extended.
    pub(super) immediate: u64,
}

#[derive(Clone, Copy)]
pub(super) struct Prefixes {
    pub(super) lock: bool,
    /// REP or REPNE.
    pub(super) rep: bool,
    /// The last of the prefixes F2h and F3h is F3h.
    pub(super) f3: bool,
    /// The size of an operand that is not a byte: 2, 4 or 8.
    pub(super) operand_bytes: u8,
    pub(super) address_bytes: u8,
    /// The prefix 66h is there. Some opcodes take it for a part of them.
    pub(super) resized: bool,
    /// The REX prefix, or zero.
    pub(super) rex: u8,
    pub(super) segment: Option<SegReg>,
}

/// A memory operand: base + index * scale + displacement.
#[derive(Clone, Copy, Default)]
pub(super) struct MemoryOperand {
    base: Option<u8>,
    index: Option<u8>,
    shift: u8,
    displacement: u64,
    /// The displacement counts from the end of the instruction.
    relative: bool,
    /// The default segment is SS.
    stack: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Immediate {
    None,
    Byte,
    /// The operand's size, but at most 32 bits.
    Full,
}

impl Encoding {
    pub(super) fn parse(bytes: &[u8], mode: CpuMode, rip: u64) -> Option<Self> {
        let mut reader = Reader { bytes, at: 0 };
        let (prefixes, first) = Prefixes::parse(&mut reader, mode)?;
        let opcode = match first {
            0x0f => 0x0f00 | u16::from(reader.byte()?),
            byte => byte.into(),
        };
        let (mut reg, mut rm, mut place) = (0, 0, None);
        match opcode {
            0x6c..=0x6f | 0xa4 | 0xa5 | 0xaa | 0xab | 0xf4 => {}
            // CLTS, INVD, WBINVD, WRMSR, RDMSR.
            0x0f06 | 0x0f08 | 0x0f09 | 0x0f30 | 0x0f32 => {}
            0xa0..=0xa3 => {
                place = Some(MemoryOperand {
                    displacement: reader.unsigned(prefixes.address_bytes)?,
                    ..MemoryOperand::default()
                });
            }
            _ => {
                // An unknown opcode ends here, before its operands are taken for something else.
                Immediate::of(opcode, 0)?;
                let modrm = reader.byte()?;
                reg = modrm >> 3 & 7 | (prefixes.rex & 4) << 1;
                rm = modrm & 7;
                // A move of a control register ignores ModRM.mod.
                if modrm < 0xc0 && !matches!(opcode, 0x0f20 | 0x0f22) {
                    place = Some(MemoryOperand::parse(&mut reader, modrm, &prefixes, mode)?);
                }
            }
        }
        let immediate = match Immediate::of(opcode, reg)? {
            Immediate::None => 0,
            Immediate::Byte => reader.signed(1)?,
            Immediate::Full => reader.signed(prefixes.operand_bytes.min(4))?,
        };
        if let Some(place) = place.as_mut().filter(|place| place.relative) {
            let end = rip.wrapping_add(reader.at as u64);
            place.displacement = place.displacement.wrapping_add(end);
        }
        Some(Self {
            len: reader.at as u8,
            opcode,
            prefixes,
            reg,
            rm,
            place,
            immediate,
        })
    }

    /// The register operand, at this width.
    pub(super) fn register(&self, width: Width) -> GprPart {
        operand::part(self.reg, width.bytes(), self.prefixes.rex != 0)
    }

    /// The width of the operand: a byte if the lowest bit of the opcode is clear.
    pub(super) fn width(&self) -> Width {
        if self.opcode & 1 == 0 {
            Width::B1
        } else {
            self.whole()
        }
    }

    /// The width of an operand that is not a byte.
    pub(super) fn whole(&self) -> Width {
        match self.prefixes.operand_bytes {
            2 => Width::B2,
            4 => Width::B4,
            _ => Width::B8,
        }
    }
}

impl Immediate {
    /// `None` for an opcode that the emulator does not know.
    fn of(opcode: u16, reg: u8) -> Option<Self> {
        Some(match opcode {
            0x00..=0x3b if opcode & 7 < 4 => Self::None,
            0x63 | 0x6c..=0x6f | 0x84..=0x8b | 0xa0..=0xa5 | 0xaa | 0xab | 0xfe | 0xff => {
                Self::None
            }
            0x80 | 0x82 | 0x83 | 0xc6 | 0x0fba => Self::Byte,
            0x81 | 0xc7 => Self::Full,
            // Of this group TEST alone has an immediate.
            0xf6 if reg & 7 < 2 => Self::Byte,
            0xf7 if reg & 7 < 2 => Self::Full,
            0xf6 | 0xf7 => Self::None,
            0xf4 | 0x0f01 | 0x0f06 | 0x0f08 | 0x0f09 | 0x0f20 | 0x0f22 | 0x0f30 | 0x0f32 => {
                Self::None
            }
            0x0fa3 | 0x0fab | 0x0fb3 | 0x0fbb => Self::None,
            0x0fb0 | 0x0fb1 | 0x0fb6 | 0x0fb7 | 0x0fbe | 0x0fbf => Self::None,
            0x0fc0 | 0x0fc1 | 0x0fc3 => Self::None,
            _ => return None,
        })
    }
}

impl Prefixes {
    /// The prefixes, and the first byte of the opcode.
    fn parse(reader: &mut Reader, mode: CpuMode) -> Option<(Self, u8)> {
        let long = mode == CpuMode::Long64;
        let (mut lock, mut rep, mut f3, mut resized, mut readdressed) =
            (false, false, false, false, false);
        let (mut rex, mut segment) = (0, None);
        let opcode = loop {
            let byte = reader.byte()?;
            match byte {
                0x40..=0x4f if long => {
                    rex = byte;
                    continue;
                }
                0x66 => resized = true,
                0x67 => readdressed = true,
                0xf0 => lock = true,
                0xf2 | 0xf3 => (rep, f3) = (true, byte == 0xf3),
                0x64 => segment = Some(SegReg::Fs),
                0x65 => segment = Some(SegReg::Gs),
                0x26 | 0x2e | 0x36 | 0x3e if long => {}
                0x26 => segment = Some(SegReg::Es),
                0x2e => segment = Some(SegReg::Cs),
                0x36 => segment = Some(SegReg::Ss),
                0x3e => segment = Some(SegReg::Ds),
                _ => break byte,
            }
            // A REX prefix counts only right before the opcode.
            rex = 0;
        };
        let prefixes = Self {
            lock,
            rep,
            f3,
            operand_bytes: match (mode.bits(), resized) {
                _ if rex & 8 != 0 => 8,
                (16, false) | (32 | 64, true) => 2,
                _ => 4,
            },
            address_bytes: match (mode.bits(), readdressed) {
                (64, false) => 8,
                (16, false) | (32, true) => 2,
                _ => 4,
            },
            resized,
            rex,
            segment,
        };
        Some((prefixes, opcode))
    }
}

impl MemoryOperand {
    fn parse(reader: &mut Reader, modrm: u8, prefixes: &Prefixes, mode: CpuMode) -> Option<Self> {
        if prefixes.address_bytes == 2 {
            return Self::parse_16(reader, modrm);
        }
        let mut place = Self::default();
        let mut base = modrm & 7;
        if base == 4 {
            let sib = reader.byte()?;
            let index = sib >> 3 & 7 | (prefixes.rex & 2) << 2;
            place.index = (index != 4).then_some(index);
            place.shift = sib >> 6;
            base = sib & 7;
        }
        let displacement = match modrm >> 6 {
            0 if base == 5 => {
                // Without a SIB byte, this is relative in 64-bit mode.
                place.relative = mode == CpuMode::Long64 && modrm & 7 == 5;
                place.displacement = reader.signed(4)?;
                return Some(place);
            }
            0 => 0,
            1 => reader.signed(1)?,
            _ => reader.signed(4)?,
        };
        let base = base | (prefixes.rex & 1) << 3;
        Some(Self {
            base: Some(base),
            displacement,
            stack: matches!(base, 4 | 5),
            ..place
        })
    }

    fn parse_16(reader: &mut Reader, modrm: u8) -> Option<Self> {
        const BX: Option<u8> = Some(3);
        const BP: Option<u8> = Some(5);
        const SI: Option<u8> = Some(6);
        const DI: Option<u8> = Some(7);
        let (base, index) = match modrm & 7 {
            0 => (BX, SI),
            1 => (BX, DI),
            2 => (BP, SI),
            3 => (BP, DI),
            4 => (None, SI),
            5 => (None, DI),
            6 if modrm < 0x40 => (None, None),
            6 => (BP, None),
            _ => (BX, None),
        };
        let displacement = match modrm >> 6 {
            0 if modrm & 7 == 6 => reader.signed(2)?,
            0 => 0,
            1 => reader.signed(1)?,
            _ => reader.signed(2)?,
        };
        Some(Self {
            base,
            index,
            displacement,
            stack: base == BP,
            ..Self::default()
        })
    }

    pub(super) fn segment(&self, prefixes: &Prefixes) -> SegReg {
        let own = if self.stack { SegReg::Ss } else { SegReg::Ds };
        prefixes.segment.unwrap_or(own)
    }

    /// The offset in the segment, before it is truncated to the size of an address.
    pub(super) fn offset(&self, gprs: &Gprs) -> u64 {
        let value = |register: Option<u8>| register.map_or(0, |number| gprs.get(number));
        value(self.base)
            .wrapping_add(value(self.index) << self.shift)
            .wrapping_add(self.displacement)
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn unsigned(&mut self, bytes: u8) -> Option<u64> {
        let mut value = 0;
        for n in 0..bytes {
            value |= u64::from(self.byte()?) << (8 * n);
        }
        Some(value)
    }

    fn signed(&mut self, bytes: u8) -> Option<u64> {
        let unused = 64 - 8 * u32::from(bytes);
        let value = self.unsigned(bytes)? << unused;
        Some((value as i64 >> unused) as u64)
    }
}
