//! From bytes to what an instruction does with its memory operand.

use iced_x86::{Decoder, DecoderOptions, Instruction, MemorySize, Mnemonic, OpKind, Register};
use oxen_types::Vaddr;

use super::alu::{Alu, Width, compute};
use super::operand::{self, GprPart};
use crate::backend::{Reg, VcpuBackend};
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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BitOp {
    Test,
    Set,
    Reset,
    Complement,
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
    debug_assert_eq!(nop.mnemonic(), Mnemonic::Nop);
}

pub(super) fn decode(vcpu: &dyn VcpuBackend, bytes: &[u8]) -> Option<Insn> {
    let mode = vcpu.mode();
    let rip = vcpu.get(Reg::Rip);
    let mut decoder = Decoder::with_ip(mode.bits(), bytes, rip, DecoderOptions::NONE);
    let mut insn = Instruction::default();
    decoder.decode_out(&mut insn);
    if insn.is_invalid() {
        return None;
    }
    let memory = (0..insn.op_count()).find(|&n| is_string(insn.op_kind(n)));
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

fn kind(vcpu: &dyn VcpuBackend, insn: &Instruction) -> Option<Kind> {
    use Mnemonic as M;
    Some(match insn.mnemonic() {
        M::Movsb => Kind::Movs(Width::B1),
        M::Movsw => Kind::Movs(Width::B2),
        // The name is shared with an SSE2 move.
        M::Movsd if is_string(insn.op_kind(0)) => Kind::Movs(Width::B4),
        M::Movsq => Kind::Movs(Width::B8),
        M::Stosb => Kind::Stos(Width::B1),
        M::Stosw => Kind::Stos(Width::B2),
        M::Stosd => Kind::Stos(Width::B4),
        M::Stosq => Kind::Stos(Width::B8),
        M::Insb => Kind::Ins(Width::B1),
        M::Insw => Kind::Ins(Width::B2),
        M::Insd => Kind::Ins(Width::B4),
        M::Outsb => Kind::Outs(Width::B1),
        M::Outsw => Kind::Outs(Width::B2),
        M::Outsd => Kind::Outs(Width::B4),
        _ => {
            let width = width(insn)?;
            let at = operand::address(vcpu, insn)?;
            let (op, at) = operation(vcpu, insn, width, at)?;
            Kind::Memory { at, width, op }
        }
    })
}

fn width(insn: &Instruction) -> Option<Width> {
    use MemorySize as S;
    Some(match insn.memory_size() {
        S::UInt8 | S::Int8 => Width::B1,
        S::UInt16 | S::Int16 => Width::B2,
        S::UInt32 | S::Int32 => Width::B4,
        S::UInt64 | S::Int64 => Width::B8,
        _ => return None,
    })
}

fn operation(
    vcpu: &dyn VcpuBackend,
    insn: &Instruction,
    width: Width,
    at: Vaddr,
) -> Option<(Operation, Vaddr)> {
    use Mnemonic as M;
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
    let alu = |alu| {
        Some(if to_memory {
            Operation::Modify(alu, source(1)?)
        } else {
            Operation::Combine(alu, register(0)?)
        })
    };
    let op = match insn.mnemonic() {
        M::Mov | M::Movnti if to_memory => Operation::Store(source(1)?),
        M::Mov | M::Movzx => Operation::Load {
            to: register(0)?,
            signed: false,
        },
        M::Movsx | M::Movsxd => Operation::Load {
            to: register(0)?,
            signed: true,
        },
        M::Add => alu(Alu::Add)?,
        M::Adc => alu(Alu::Adc)?,
        M::Sub => alu(Alu::Sub)?,
        M::Sbb => alu(Alu::Sbb)?,
        M::And => alu(Alu::And)?,
        M::Or => alu(Alu::Or)?,
        M::Xor => alu(Alu::Xor)?,
        M::Cmp if to_memory => Operation::Compare(Alu::Sub, source(1)?),
        M::Cmp => Operation::CompareWith(register(0)?),
        M::Test => Operation::Compare(Alu::And, source(u32::from(to_memory))?),
        M::Xchg => Operation::Exchange(register(u32::from(to_memory))?),
        M::Xadd => Operation::ExchangeAdd(register(1)?),
        M::Cmpxchg => Operation::CompareExchange(register(1)?),
        M::Bt => return bit(vcpu, insn, BitOp::Test, width, at),
        M::Bts => return bit(vcpu, insn, BitOp::Set, width, at),
        M::Btr => return bit(vcpu, insn, BitOp::Reset, width, at),
        M::Btc => return bit(vcpu, insn, BitOp::Complement, width, at),
        M::Inc => Operation::Increment(true),
        M::Dec => Operation::Increment(false),
        M::Not => Operation::Not,
        M::Neg => Operation::Negate,
        _ => return None,
    };
    Some((op, at))
}

/// A bit number in a register counts from the operand on, in both directions.
fn bit(
    vcpu: &dyn VcpuBackend,
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
    pub(super) fn apply(&self, vcpu: &dyn VcpuBackend, old: u64, width: Width) -> Step {
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
