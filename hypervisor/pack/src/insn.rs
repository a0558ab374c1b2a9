//! The parts of x86-64 instructions, byte by byte: as much of the encoding (Intel SDM volume 2,
//! chapter 2 and appendix A) as tells which part of an instruction the next byte is.
//!
//! Bytes that are no instructions are parsed too, as whatever they look like. That costs a few
//! bytes of the packed image and nothing else: both sides see the same bytes.

use bytemuck::Zeroable;

/// The part of an instruction that the next byte belongs to.
#[derive(Clone, Copy, Default, PartialEq, Eq, Zeroable)]
#[repr(u8)]
pub(crate) enum Part {
    /// A prefix, or the opcode.
    #[default]
    Opcode,
    /// The second byte of an opcode.
    Second,
    /// The third byte of an opcode.
    Third,
    ModRm,
    Sib,
    Displacement,
    Immediate,
    /// rel8 and rel32.
    Relative,
    ShortRelative,
}

/// The instruction so far, and those before.
#[derive(Clone, Copy, Default, Zeroable)]
pub(crate) struct Parser {
    pub(crate) part: Part,
    /// Bytes of this part before the next one, or which prefix was last.
    pub(crate) index: u8,
    left: u8,
    /// The opcode in bits 0 to 7, REX in 8 to 15, ModRM in 16 to 23, the map in bit 24.
    pub(crate) opcode: u32,
    pub(crate) sib: u8,
    narrow: bool,
    rex: u8,
    operand: Operand,
    /// `opcode` of the last instructions, the latest first.
    pub(crate) last: [u32; 3],
}

/// The operand behind ModRM and its displacement.
#[derive(Clone, Copy, Default, PartialEq, Eq, Zeroable)]
#[repr(u8)]
enum Operand {
    #[default]
    None,
    Byte,
    Word,
    /// 16 or 32 bits.
    Full,
    /// 16, 32 or 64 bits.
    Long,
    Address,
    ShortRelative,
    Relative,
    /// An immediate for the first two operations of the group alone.
    Group3,
}

impl Operand {
    /// Of an opcode of the first map, and whether ModRM follows.
    fn of_first(opcode: u8) -> (bool, Self) {
        match opcode {
            0x00..=0x3f if opcode & 7 < 4 => (true, Self::None),
            0x00..=0x3f if opcode & 7 == 4 => (false, Self::Byte),
            0x00..=0x3f if opcode & 7 == 5 => (false, Self::Full),
            0x63 | 0x84..=0x8f | 0xd0..=0xd3 | 0xd8..=0xdf | 0xfe | 0xff => (true, Self::None),
            0x69 | 0x81 | 0xc7 => (true, Self::Full),
            0x6b | 0x80 | 0x82 | 0x83 | 0xc0 | 0xc1 | 0xc6 => (true, Self::Byte),
            0x68 | 0xa9 => (false, Self::Full),
            0x6a | 0xa8 | 0xb0..=0xb7 | 0xe4..=0xe7 => (false, Self::Byte),
            0x70..=0x7f | 0xe0..=0xe3 | 0xeb => (false, Self::ShortRelative),
            0xe8 | 0xe9 => (false, Self::Relative),
            0xa0..=0xa3 => (false, Self::Address),
            0xb8..=0xbf => (false, Self::Long),
            0xc2 => (false, Self::Word),
            0xf6 | 0xf7 => (true, Self::Group3),
            _ => (false, Self::None),
        }
    }

    /// The same, of the second map.
    fn of_second(opcode: u8) -> (bool, Self) {
        match opcode {
            0x05..=0x0b | 0x30..=0x37 | 0x77 | 0xa0..=0xa2 | 0xa8..=0xaa | 0xc8..=0xcf => {
                (false, Self::None)
            }
            0x80..=0x8f => (false, Self::Relative),
            0x70..=0x73 | 0xa4 | 0xac | 0xba | 0xc2 | 0xc4..=0xc6 => (true, Self::Byte),
            _ => (true, Self::None),
        }
    }
}

impl Parser {
    pub(crate) fn is_relative(&self) -> bool {
        self.opcode >> 16 & 0xc7 == 5
    }

    /// The number of the next byte's part, and of the byte in the part.
    pub(crate) fn place(&self) -> u32 {
        u32::from(self.part as u8) << 4 | u32::from(self.index)
    }

    /// The base register of the memory operand, if there is no SIB byte.
    pub(crate) fn base(&self) -> usize {
        (self.opcode >> 16 & 7 | (self.opcode >> 8 & 1) << 3) as usize
    }

    /// Takes the next byte.
    pub(crate) fn step(&mut self, byte: u8) {
        match self.part {
            Part::Opcode => match byte {
                0x40..=0x4f => (self.rex, self.index) = (byte, 1),
                0x66 => (self.narrow, self.index) = (true, 2),
                0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0x67 | 0xf0 | 0xf2 | 0xf3 => {
                    self.index = 3;
                }
                0x0f => self.begin(Part::Second, 0),
                _ => self.opcode(byte, 0, Operand::of_first(byte)),
            },
            Part::Second if matches!(byte, 0x38 | 0x3a) => {
                self.opcode = 1 << 24 | u32::from(byte);
                self.begin(Part::Third, 0);
            }
            Part::Second => self.opcode(byte, 1 << 24, Operand::of_second(byte)),
            Part::Third => self.begin(Part::ModRm, 0),
            Part::ModRm => {
                self.opcode |= u32::from(byte) << 16;
                if self.operand == Operand::Group3 {
                    self.operand = match (byte & 0x30, self.opcode & 1) {
                        (0, 0) => Operand::Byte,
                        (0, _) => Operand::Full,
                        _ => Operand::None,
                    };
                }
                match (byte >> 6, byte & 7) {
                    (3, _) => self.operand(),
                    (_, 4) => self.begin(Part::Sib, 0),
                    (mode, base) => self.displacement(mode, base),
                }
            }
            Part::Sib => {
                self.sib = byte;
                self.displacement((self.opcode >> 22 & 3) as u8, byte & 7);
            }
            Part::Displacement | Part::Immediate | Part::Relative | Part::ShortRelative => {
                self.index += 1;
                self.left -= 1;
                match self.part {
                    _ if self.left != 0 => {}
                    Part::Displacement => self.operand(),
                    _ => self.end(),
                }
            }
        }
    }

    fn begin(&mut self, part: Part, bytes: u8) {
        (self.part, self.index, self.left) = (part, 0, bytes);
    }

    fn opcode(&mut self, byte: u8, map: u32, (modrm, operand): (bool, Operand)) {
        self.opcode = map | u32::from(self.rex) << 8 | u32::from(byte);
        self.operand = operand;
        if modrm {
            self.begin(Part::ModRm, 0);
        } else {
            self.operand();
        }
    }

    fn displacement(&mut self, mode: u8, base: u8) {
        match (mode, base) {
            (0, 5) | (2, _) => self.begin(Part::Displacement, 4),
            (1, _) => self.begin(Part::Displacement, 1),
            _ => self.operand(),
        }
    }

    fn operand(&mut self) {
        let full = if self.narrow { 2 } else { 4 };
        match self.operand {
            Operand::None | Operand::Group3 => self.end(),
            Operand::Byte => self.begin(Part::Immediate, 1),
            Operand::Word => self.begin(Part::Immediate, 2),
            Operand::Address => self.begin(Part::Immediate, 8),
            Operand::Long if self.rex & 8 != 0 => self.begin(Part::Immediate, 8),
            Operand::Full | Operand::Long => self.begin(Part::Immediate, full),
            Operand::ShortRelative => self.begin(Part::ShortRelative, 1),
            Operand::Relative => self.begin(Part::Relative, 4),
        }
    }

    fn end(&mut self) {
        let [a, b, _] = self.last;
        *self = Self {
            last: [self.opcode, a, b],
            ..Self::default()
        };
    }
}
