//! From bytes to what an instruction does with its memory operand.

use oxen_types::Vaddr;

use super::alu::{Alu, Width, compute};
use super::encoding::Encoding;
use super::operand::{self, GprPart};
use crate::backend::{CpuMode, Reg, SegReg, VcpuEmulation};
use crate::x86::{RFLAGS_CF, RFLAGS_FIXED, RFLAGS_ZF};

pub(super) struct Insn {
    pub(super) len: u8,
    pub(super) kind: Kind,
    /// For string instructions.
    pub(super) rep: bool,
    /// Bytes of the addresses in RSI, RDI and the count in RCX.
    pub(super) address_bytes: u8,
    /// The segment of the source of MOVS and OUTS.
    pub(super) segment: SegReg,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Memory {
        at: Vaddr,
        width: Width,
        op: Operation,
    },
    Movs(Width),
    Stos(Width),
    Ins(Width),
    Outs(Width),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    Register(GprPart),
    Immediate(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BitOp {
    Test,
    Set,
    Reset,
    Complement,
}

/// The operation on the value in memory (`m`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    /// register = m
    Load {
        to: GprPart,
        signed: bool,
    },
    /// m = source
    Store(Source),
    /// m = m op source
    Modify(Alu, Source),
    /// register = register op m
    Combine(Alu, GprPart),
    /// flags of m op source (CMP, TEST)
    Compare(Alu, Source),
    /// flags of register - m
    CompareWith(GprPart),
    Exchange(GprPart),
    /// m + register, and register = m
    ExchangeAdd(GprPart),
    /// If m = accumulator then m = register, else accumulator = m
    CompareExchange(GprPart),
    Bit(BitOp, u32),
    Increment(bool),
    Not,
    Negate,
}

/// The results of an operation, to be stored when all checks are done.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) store: Option<u64>,
    pub(super) load: Option<(GprPart, u64)>,
    pub(super) flags: Option<u64>,
}

pub(super) fn decode(vcpu: &dyn VcpuEmulation, bytes: &[u8]) -> Option<Insn> {
    let encoding = Encoding::parse(bytes, vcpu.execution().mode(), vcpu.get(Reg::Rip))?;
    let kind = kind(vcpu, &encoding)?;
    let prefixes = &encoding.prefixes;
    if prefixes.lock && !matches!(kind, Kind::Memory { op, .. } if op.may_be_locked()) {
        return None;
    }
    Some(Insn {
        len: encoding.len,
        kind,
        rep: prefixes.rep,
        address_bytes: prefixes.address_bytes,
        segment: prefixes.segment.unwrap_or(SegReg::Ds),
    })
}

fn kind(vcpu: &dyn VcpuEmulation, encoding: &Encoding) -> Option<Kind> {
    let width = encoding.width();
    // Ports have 32 bits at most.
    let port = if width == Width::B8 { Width::B4 } else { width };
    Some(match encoding.opcode {
        0x6c | 0x6d => Kind::Ins(port),
        0x6e | 0x6f => Kind::Outs(port),
        0xa4 | 0xa5 => Kind::Movs(width),
        0xaa | 0xab => Kind::Stos(width),
        0x0fa3 | 0x0fab | 0x0fb3 | 0x0fbb => far_bit(vcpu, encoding)?,
        _ => {
            let (op, width) = operation(encoding, vcpu.execution().mode() == CpuMode::Long64)?;
            let at = operand::address(vcpu, encoding)?;
            Kind::Memory { at, width, op }
        }
    })
}

/// The operation on the memory operand, and the operand's width.
fn operation(encoding: &Encoding, long: bool) -> Option<(Operation, Width)> {
    let width = encoding.width();
    let source = Source::Register(encoding.register(width));
    let immediate = Source::Immediate(encoding.immediate & width.mask());
    let accumulator = operand::accumulator(width.bytes());
    let extended = |width, signed| {
        let to = encoding.register(encoding.whole());
        Some((Operation::Load { to, signed }, width))
    };
    let op = match (encoding.opcode, encoding.reg & 7) {
        (opcode @ 0x00..=0x3b, _) => arithmetic(encoding, opcode & 2 == 0, opcode as u8 >> 3),
        (0x63, _) if long => return extended(encoding.whole().min(Width::B4), true),
        (0x80 | 0x81 | 0x83, alu) => modify(alu, immediate),
        (0x82, alu) if !long => modify(alu, immediate),
        (0x84 | 0x85, _) => Operation::Compare(Alu::And, source),
        (0x86 | 0x87, _) => Operation::Exchange(encoding.register(width)),
        (0x88 | 0x89, _) => Operation::Store(source),
        (0x8a | 0x8b, _) => Operation::Load {
            to: encoding.register(width),
            signed: false,
        },
        (0xa0 | 0xa1, _) => Operation::Load {
            to: accumulator,
            signed: false,
        },
        (0xa2 | 0xa3, _) => Operation::Store(Source::Register(accumulator)),
        (0xc6 | 0xc7, 0) => Operation::Store(immediate),
        (0xf6 | 0xf7, 0 | 1) => Operation::Compare(Alu::And, immediate),
        (0xf6 | 0xf7, 2) => Operation::Not,
        (0xf6 | 0xf7, 3) => Operation::Negate,
        (0xfe | 0xff, 0) => Operation::Increment(true),
        (0xfe | 0xff, 1) => Operation::Increment(false),
        (0x0fb0 | 0x0fb1, _) => Operation::CompareExchange(encoding.register(width)),
        (0x0fb6, _) => return extended(Width::B1, false),
        (0x0fb7, _) => return extended(Width::B2, false),
        (0x0fba, bit @ 4..) => {
            let width = encoding.whole();
            let number = encoding.immediate as u32 % width.bits();
            return Some((Operation::Bit(BitOp::of(bit), number), width));
        }
        (0x0fbe, _) => return extended(Width::B1, true),
        (0x0fbf, _) => return extended(Width::B2, true),
        (0x0fc0 | 0x0fc1, _) => Operation::ExchangeAdd(encoding.register(width)),
        // MOVNTI, of 32 bits at least. With one of these prefixes it is another.
        (0x0fc3, _) if !encoding.prefixes.resized && !encoding.prefixes.rep => {
            let width = width.max(Width::B4);
            let source = Source::Register(encoding.register(width));
            return Some((Operation::Store(source), width));
        }
        _ => return None,
    };
    Some((op, width))
}

/// The opcodes of arithmetic: a register with memory, in both directions.
fn arithmetic(encoding: &Encoding, to_memory: bool, number: u8) -> Operation {
    let register = encoding.register(encoding.width());
    match alu(number) {
        _ if to_memory => modify(number, Source::Register(register)),
        Some(alu) => Operation::Combine(alu, register),
        None => Operation::CompareWith(register),
    }
}

fn modify(number: u8, source: Source) -> Operation {
    match alu(number) {
        Some(alu) => Operation::Modify(alu, source),
        None => Operation::Compare(Alu::Sub, source),
    }
}

/// None is CMP.
fn alu(number: u8) -> Option<Alu> {
    Some(match number & 7 {
        0 => Alu::Add,
        1 => Alu::Or,
        2 => Alu::Adc,
        3 => Alu::Sbb,
        4 => Alu::And,
        5 => Alu::Sub,
        6 => Alu::Xor,
        _ => return None,
    })
}

/// A bit number in a register counts from the operand on, in both directions.
fn far_bit(vcpu: &dyn VcpuEmulation, encoding: &Encoding) -> Option<Kind> {
    let width = encoding.whole();
    let number = operand::read(vcpu.gprs(), encoding.register(width));
    let (number, bits) = (width.sign_extend(number) as i64, i64::from(width.bits()));
    let offset = number.div_euclid(bits).wrapping_mul(bits / 8);
    let at = operand::address(vcpu, encoding)?.raw();
    Some(Kind::Memory {
        at: Vaddr::new(at.wrapping_add(offset as u64)),
        width,
        op: Operation::Bit(
            BitOp::of((encoding.opcode >> 3) as u8),
            number.rem_euclid(bits) as u32,
        ),
    })
}

impl BitOp {
    /// By the two low bits that tell them apart in all their opcodes.
    fn of(number: u8) -> Self {
        match number & 3 {
            0 => Self::Test,
            1 => Self::Set,
            2 => Self::Reset,
            _ => Self::Complement,
        }
    }
}

impl Operation {
    /// Whether a LOCK prefix may stand before the instruction.
    fn may_be_locked(&self) -> bool {
        self.reads() && self.writes()
    }

    pub(super) fn reads(&self) -> bool {
        !matches!(self, Self::Store(_))
    }

    pub(super) fn writes(&self) -> bool {
        !matches!(
            self,
            Self::Load { .. }
                | Self::Combine(..)
                | Self::Compare(..)
                | Self::CompareWith(_)
                | Self::Bit(BitOp::Test, _)
        )
    }

    /// The effects of the instruction, given the old value in memory.
    pub(super) fn apply(&self, vcpu: &dyn VcpuEmulation, old: u64, width: Width) -> Effects {
        let flags = vcpu.get(Reg::Rflags);
        let old = old & width.mask();
        let read = |part| operand::read(vcpu.gprs(), part);
        let value = |source| match source {
            Source::Register(part) => read(part),
            Source::Immediate(value) => value,
        };
        let mut effects = Effects::default();
        match *self {
            Self::Load { to, signed } => {
                let value = if signed { width.sign_extend(old) } else { old };
                effects.load = Some((to, value));
            }
            Self::Store(source) => effects.store = Some(value(source)),
            Self::Modify(alu, source) => {
                let (result, flags) = compute(alu, old, value(source), width, flags);
                (effects.store, effects.flags) = (Some(result), Some(flags));
            }
            Self::Combine(alu, part) => {
                let (result, flags) = compute(alu, read(part), old, width, flags);
                (effects.load, effects.flags) = (Some((part, result)), Some(flags));
            }
            Self::Compare(alu, source) => {
                effects.flags = Some(compute(alu, old, value(source), width, flags).1);
            }
            Self::CompareWith(part) => {
                effects.flags = Some(compute(Alu::Sub, read(part), old, width, flags).1);
            }
            Self::Exchange(part) => {
                (effects.store, effects.load) = (Some(read(part)), Some((part, old)));
            }
            Self::ExchangeAdd(part) => {
                let (sum, flags) = compute(Alu::Add, old, read(part), width, flags);
                (effects.store, effects.load, effects.flags) =
                    (Some(sum), Some((part, old)), Some(flags));
            }
            Self::CompareExchange(part) => {
                let accumulator = operand::accumulator(width.bytes());
                let (_, flags) = compute(Alu::Sub, read(accumulator), old, width, flags);
                effects.flags = Some(flags);
                if flags & RFLAGS_ZF != 0 {
                    effects.store = Some(read(part));
                } else {
                    // As the hardware: memory is written in any case.
                    (effects.store, effects.load) = (Some(old), Some((accumulator, old)));
                }
            }
            Self::Bit(op, number) => {
                let mask = 1u64 << (number % width.bits());
                let carry = if old & mask != 0 { RFLAGS_CF } else { 0 };
                effects.flags = Some(flags & !RFLAGS_CF | carry | RFLAGS_FIXED);
                effects.store = match op {
                    BitOp::Test => None,
                    BitOp::Set => Some(old | mask),
                    BitOp::Reset => Some(old & !mask),
                    BitOp::Complement => Some(old ^ mask),
                };
            }
            Self::Increment(up) => {
                let alu = if up { Alu::Add } else { Alu::Sub };
                let (result, new) = compute(alu, old, 1, width, flags);
                effects.store = Some(result);
                effects.flags = Some(new & !RFLAGS_CF | flags & RFLAGS_CF);
            }
            Self::Not => effects.store = Some(!old & width.mask()),
            Self::Negate => {
                let (result, flags) = compute(Alu::Sub, 0, old, width, flags);
                (effects.store, effects.flags) = (Some(result), Some(flags));
            }
        }
        effects
    }
}

#[cfg(test)]
pub(super) mod oracle;
#[cfg(test)]
mod tests;
