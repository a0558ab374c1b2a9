//! From bytes to what an instruction does with its memory operand.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, OpKind, Register};
use oxen_types::Vaddr;

use super::alu::{Alu, Width, compute};
use super::codes::{BitOp, Verb, verb};
use super::operand::{self, GprPart};
use crate::backend::{Reg, VcpuEmulation};
use crate::x86::{RFLAGS_CF, RFLAGS_FIXED, RFLAGS_ZF};

pub(super) struct Insn {
    pub(super) len: u8,
    pub(super) kind: Kind,
    /// For string instructions.
    pub(super) rep: bool,
    /// Bytes of the addresses in RSI, RDI and the count in RCX.
    pub(super) address_bytes: u8,
    /// The segment of the source of MOVS and OUTS.
    pub(super) segment: Register,
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

/// What is done with the value in memory (`m`).
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

/// What an operation leaves behind.
#[derive(Default)]
pub(super) struct Step {
    pub(super) store: Option<u64>,
    pub(super) load: Option<(GprPart, u64)>,
    pub(super) flags: Option<u64>,
}

/// The decoder builds its tables on the heap at its first use: that must not be a guest's doing, at
/// a moment when memory may be short.
pub(crate) fn build_tables() {
    let nop = Decoder::with_ip(64, &[0x90], 0, DecoderOptions::NONE).decode();
    debug_assert_eq!(nop.code(), Code::Nopd);
}

pub(super) fn decode(vcpu: &dyn VcpuEmulation, bytes: &[u8]) -> Option<Insn> {
    let mode = vcpu.execution().mode();
    let rip = vcpu.get(Reg::Rip);
    let mut decoder = Decoder::with_ip(mode.bits(), bytes, rip, DecoderOptions::NONE);
    let mut insn = Instruction::default();
    decoder.decode_out(&mut insn);
    if insn.is_invalid() {
        return None;
    }
    // Of two operands: no instruction that is emulated has more with memory among them.
    let memory = (0..2).find(|&n| is_string(insn.op_kind(n)));
    Some(Insn {
        len: insn.len() as u8,
        kind: kind(vcpu, &insn)?,
        rep: insn.has_rep_prefix() || insn.has_repne_prefix(),
        address_bytes: memory.map_or(8, |n| string_address_bytes(insn.op_kind(n))),
        segment: insn.memory_segment(),
    })
}

fn is_string(kind: OpKind) -> bool {
    string_address_bytes(kind) != 0
}

fn string_address_bytes(kind: OpKind) -> u8 {
    match kind {
        OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI => 2,
        OpKind::MemorySegESI | OpKind::MemorySegEDI | OpKind::MemoryESEDI => 4,
        OpKind::MemorySegRSI | OpKind::MemorySegRDI | OpKind::MemoryESRDI => 8,
        _ => 0,
    }
}

fn kind(vcpu: &dyn VcpuEmulation, insn: &Instruction) -> Option<Kind> {
    let (verb, width) = verb(insn.code())?;
    Some(match verb {
        Verb::Movs => Kind::Movs(width),
        Verb::Stos => Kind::Stos(width),
        Verb::Ins => Kind::Ins(width),
        Verb::Outs => Kind::Outs(width),
        _ => {
            let at = operand::address(vcpu, insn)?;
            let (op, at) = operation(vcpu, insn, verb, width, at)?;
            Kind::Memory { at, width, op }
        }
    })
}

fn operation(
    vcpu: &dyn VcpuEmulation,
    insn: &Instruction,
    verb: Verb,
    width: Width,
    at: Vaddr,
) -> Option<(Operation, Vaddr)> {
    let to_memory = insn.op_kind(0) == OpKind::Memory;
    let register = |n| match insn.op_kind(n) {
        OpKind::Register => operand::part(insn.op_register(n)),
        _ => None,
    };
    let source = |n| {
        register(n)
            .map(Source::Register)
            .or_else(|| operand::immediate(insn, n).map(Source::Immediate))
    };
    let op = match verb {
        Verb::Move if to_memory => Operation::Store(source(1)?),
        Verb::Move | Verb::MoveSigned => Operation::Load {
            to: register(0)?,
            signed: verb == Verb::MoveSigned,
        },
        Verb::Alu(alu) if to_memory => Operation::Modify(alu, source(1)?),
        Verb::Alu(alu) => Operation::Combine(alu, register(0)?),
        Verb::Compare if to_memory => Operation::Compare(Alu::Sub, source(1)?),
        Verb::Compare => Operation::CompareWith(register(0)?),
        Verb::Test => Operation::Compare(Alu::And, source(u32::from(to_memory))?),
        Verb::Exchange => Operation::Exchange(register(u32::from(to_memory))?),
        Verb::ExchangeAdd => Operation::ExchangeAdd(register(1)?),
        Verb::CompareExchange => Operation::CompareExchange(register(1)?),
        Verb::Bit(op) => return bit(vcpu, insn, op, width, at),
        Verb::Increment => Operation::Increment(true),
        Verb::Decrement => Operation::Increment(false),
        Verb::Not => Operation::Not,
        Verb::Negate => Operation::Negate,
        Verb::Movs | Verb::Stos | Verb::Ins | Verb::Outs => return None,
    };
    Some((op, at))
}

/// A bit number in a register counts from the operand on, in both directions.
fn bit(
    vcpu: &dyn VcpuEmulation,
    insn: &Instruction,
    op: BitOp,
    width: Width,
    at: Vaddr,
) -> Option<(Operation, Vaddr)> {
    if let Some(number) = operand::immediate(insn, 1) {
        return Some((Operation::Bit(op, number as u32 % width.bits()), at));
    }
    let register = operand::part(insn.op_register(1))?;
    let number = width.sign_extend(operand::read(vcpu.gprs(), register)) as i64;
    let words = number.div_euclid(i64::from(width.bits()));
    let offset = words.wrapping_mul(i64::from(width.bytes()));
    let at = Vaddr::new(at.raw().wrapping_add(offset as u64));
    Some((
        Operation::Bit(op, number.rem_euclid(i64::from(width.bits())) as u32),
        at,
    ))
}

impl Operation {
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

    /// What the instruction does, given the old value in memory.
    pub(super) fn apply(&self, vcpu: &dyn VcpuEmulation, old: u64, width: Width) -> Step {
        let flags = vcpu.get(Reg::Rflags);
        let old = old & width.mask();
        let read = |part| operand::read(vcpu.gprs(), part);
        let value = |source| match source {
            Source::Register(part) => read(part),
            Source::Immediate(value) => value & width.mask(),
        };
        let mut step = Step::default();
        match *self {
            Self::Load { to, signed } => {
                let value = if signed { width.sign_extend(old) } else { old };
                step.load = Some((to, value));
            }
            Self::Store(source) => step.store = Some(value(source)),
            Self::Modify(alu, source) => {
                let (result, flags) = compute(alu, old, value(source), width, flags);
                (step.store, step.flags) = (Some(result), Some(flags));
            }
            Self::Combine(alu, part) => {
                let (result, flags) = compute(alu, read(part), old, width, flags);
                (step.load, step.flags) = (Some((part, result)), Some(flags));
            }
            Self::Compare(alu, source) => {
                step.flags = Some(compute(alu, old, value(source), width, flags).1);
            }
            Self::CompareWith(part) => {
                step.flags = Some(compute(Alu::Sub, read(part), old, width, flags).1);
            }
            Self::Exchange(part) => {
                (step.store, step.load) = (Some(read(part)), Some((part, old)));
            }
            Self::ExchangeAdd(part) => {
                let (sum, flags) = compute(Alu::Add, old, read(part), width, flags);
                (step.store, step.load, step.flags) = (Some(sum), Some((part, old)), Some(flags));
            }
            Self::CompareExchange(part) => {
                let accumulator = operand::accumulator(width.bytes());
                let (_, flags) = compute(Alu::Sub, read(accumulator), old, width, flags);
                step.flags = Some(flags);
                if flags & RFLAGS_ZF != 0 {
                    step.store = Some(read(part));
                } else {
                    // As the hardware: memory is written in any case.
                    (step.store, step.load) = (Some(old), Some((accumulator, old)));
                }
            }
            Self::Bit(op, number) => {
                let mask = 1u64 << (number % width.bits());
                let carry = if old & mask != 0 { RFLAGS_CF } else { 0 };
                step.flags = Some(flags & !RFLAGS_CF | carry | RFLAGS_FIXED);
                step.store = match op {
                    BitOp::Test => None,
                    BitOp::Set => Some(old | mask),
                    BitOp::Reset => Some(old & !mask),
                    BitOp::Complement => Some(old ^ mask),
                };
            }
            Self::Increment(up) => {
                let alu = if up { Alu::Add } else { Alu::Sub };
                let (result, new) = compute(alu, old, 1, width, flags);
                step.store = Some(result);
                step.flags = Some(new & !RFLAGS_CF | flags & RFLAGS_CF);
            }
            Self::Not => step.store = Some(!old & width.mask()),
            Self::Negate => {
                let (result, flags) = compute(Alu::Sub, 0, old, width, flags);
                (step.store, step.flags) = (Some(result), Some(flags));
            }
        }
        step
    }
}
