//! The judge of the decoder: iced-x86, which knows all instructions, on those that the emulator
//! carries out.

use iced_x86::{Decoder, DecoderOptions, Instruction, MemorySize, Mnemonic, OpKind, Register};
use oxen_types::Vaddr;

use super::*;

pub(super) fn decode(vcpu: &dyn VcpuEmulation, bytes: &[u8]) -> Option<Insn> {
    let (bits, rip) = (vcpu.execution().mode().bits(), vcpu.get(Reg::Rip));
    let mut insn = Instruction::default();
    Decoder::with_ip(bits, bytes, rip, DecoderOptions::NONE).decode_out(&mut insn);
    let kinds = || (0..insn.op_count()).map(|n| insn.op_kind(n));
    let in_memory = kinds().any(|kind| kind == OpKind::Memory || is_string(kind));
    if insn.is_invalid() || !in_memory {
        return None;
    }
    let memory = (0..insn.op_count()).find(|&n| is_string(insn.op_kind(n)));
    Some(Insn {
        len: insn.len() as u8,
        kind: kind(vcpu, &insn)?,
        rep: insn.has_rep_prefix() || insn.has_repne_prefix(),
        address_bytes: memory.map_or(8, |n| string_address_bytes(insn.op_kind(n))),
        segment: segment(insn.memory_segment()),
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
            let at = address(vcpu, insn)?;
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
    vcpu: &dyn VcpuEmulation,
    insn: &Instruction,
    width: Width,
    at: Vaddr,
) -> Option<(Operation, Vaddr)> {
    use Mnemonic as M;
    let to_memory = insn.op_kind(0) == OpKind::Memory;
    let register = |n| match insn.op_kind(n) {
        OpKind::Register => part(insn.op_register(n)),
        _ => None,
    };
    let source = |n| {
        register(n)
            .map(Source::Register)
            .or_else(|| immediate(insn, n).map(|value| Source::Immediate(value & width.mask())))
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
    vcpu: &dyn VcpuEmulation,
    insn: &Instruction,
    op: BitOp,
    width: Width,
    at: Vaddr,
) -> Option<(Operation, Vaddr)> {
    if let Some(number) = immediate(insn, 1) {
        return Some((Operation::Bit(op, number as u32 % width.bits()), at));
    }
    let register = part(insn.op_register(1))?;
    let number = width.sign_extend(operand::read(vcpu.gprs(), register)) as i64;
    let words = number.div_euclid(i64::from(width.bits()));
    let offset = words.wrapping_mul(i64::from(width.bytes()));
    let at = Vaddr::new(at.raw().wrapping_add(offset as u64));
    Some((
        Operation::Bit(op, number.rem_euclid(i64::from(width.bits())) as u32),
        at,
    ))
}

/// The decoder numbers each class in encoding order; only the byte registers have a gap.
pub(in crate::emul) fn part(register: Register) -> Option<GprPart> {
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
        (1, 0..=7) => Some(operand::part(index, bytes, false)),
        (1, 8..=19) => Some(operand::part(index - 4, bytes, true)),
        (_, 0..=15) => Some(operand::part(index, bytes, true)),
        _ => None,
    }
}

/// The linear address of a memory operand.
pub(in crate::emul) fn address(vcpu: &dyn VcpuEmulation, insn: &Instruction) -> Option<Vaddr> {
    let offset = |register: Register| match register {
        Register::None => Some((0, 0)),
        r => part(r).map(|p| (operand::read(vcpu.gprs(), p), p.bytes())),
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
    let offset = operand::truncate(effective, bytes);
    Some(operand::linear(
        vcpu,
        segment(insn.memory_segment()),
        offset,
    ))
}

fn segment(register: Register) -> SegReg {
    match register {
        Register::ES => SegReg::Es,
        Register::CS => SegReg::Cs,
        Register::SS => SegReg::Ss,
        Register::FS => SegReg::Fs,
        Register::GS => SegReg::Gs,
        _ => SegReg::Ds,
    }
}

/// The immediate at operand `n`, sign-extended as the instruction says.
fn immediate(insn: &Instruction, n: u32) -> Option<u64> {
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
