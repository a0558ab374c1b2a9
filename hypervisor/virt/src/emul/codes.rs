//! Which instructions are emulated: what each does, and to how many bytes of memory.
//!
//! The decoder knows mnemonics and sizes of all instructions there are; its tables of them would be
//! larger than this one of those that are of use here. A test holds it to them.

use iced_x86::Code;

use super::alu::{Alu, Width};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BitOp {
    Test,
    Set,
    Reset,
    Complement,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verb {
    Alu(Alu),
    Compare,
    Test,
    /// Zero-extending.
    Move,
    MoveSigned,
    Exchange,
    ExchangeAdd,
    CompareExchange,
    Bit(BitOp),
    Increment,
    Decrement,
    Not,
    Negate,
    Movs,
    Stos,
    Ins,
    Outs,
}

/// `None` for an instruction that is not emulated, and for one without an operand in memory.
pub(super) fn verb(code: Code) -> Option<(Verb, Width)> {
    use Code::*;
    Some(match code {
        Add_rm8_r8 | Add_r8_rm8 | Add_rm8_imm8 | Add_rm8_imm8_82 => {
            (Verb::Alu(Alu::Add), Width::B1)
        }
        Add_rm16_r16 | Add_r16_rm16 | Add_rm16_imm16 | Add_rm16_imm8 => {
            (Verb::Alu(Alu::Add), Width::B2)
        }
        Add_rm32_r32 | Add_r32_rm32 | Add_rm32_imm32 | Add_rm32_imm8 => {
            (Verb::Alu(Alu::Add), Width::B4)
        }
        Add_rm64_r64 | Add_r64_rm64 | Add_rm64_imm32 | Add_rm64_imm8 => {
            (Verb::Alu(Alu::Add), Width::B8)
        }
        Or_rm8_r8 | Or_r8_rm8 | Or_rm8_imm8 | Or_rm8_imm8_82 => (Verb::Alu(Alu::Or), Width::B1),
        Or_rm16_r16 | Or_r16_rm16 | Or_rm16_imm16 | Or_rm16_imm8 => (Verb::Alu(Alu::Or), Width::B2),
        Or_rm32_r32 | Or_r32_rm32 | Or_rm32_imm32 | Or_rm32_imm8 => (Verb::Alu(Alu::Or), Width::B4),
        Or_rm64_r64 | Or_r64_rm64 | Or_rm64_imm32 | Or_rm64_imm8 => (Verb::Alu(Alu::Or), Width::B8),
        Adc_rm8_r8 | Adc_r8_rm8 | Adc_rm8_imm8 | Adc_rm8_imm8_82 => {
            (Verb::Alu(Alu::Adc), Width::B1)
        }
        Adc_rm16_r16 | Adc_r16_rm16 | Adc_rm16_imm16 | Adc_rm16_imm8 => {
            (Verb::Alu(Alu::Adc), Width::B2)
        }
        Adc_rm32_r32 | Adc_r32_rm32 | Adc_rm32_imm32 | Adc_rm32_imm8 => {
            (Verb::Alu(Alu::Adc), Width::B4)
        }
        Adc_rm64_r64 | Adc_r64_rm64 | Adc_rm64_imm32 | Adc_rm64_imm8 => {
            (Verb::Alu(Alu::Adc), Width::B8)
        }
        Sbb_rm8_r8 | Sbb_r8_rm8 | Sbb_rm8_imm8 | Sbb_rm8_imm8_82 => {
            (Verb::Alu(Alu::Sbb), Width::B1)
        }
        Sbb_rm16_r16 | Sbb_r16_rm16 | Sbb_rm16_imm16 | Sbb_rm16_imm8 => {
            (Verb::Alu(Alu::Sbb), Width::B2)
        }
        Sbb_rm32_r32 | Sbb_r32_rm32 | Sbb_rm32_imm32 | Sbb_rm32_imm8 => {
            (Verb::Alu(Alu::Sbb), Width::B4)
        }
        Sbb_rm64_r64 | Sbb_r64_rm64 | Sbb_rm64_imm32 | Sbb_rm64_imm8 => {
            (Verb::Alu(Alu::Sbb), Width::B8)
        }
        And_rm8_r8 | And_r8_rm8 | And_rm8_imm8 | And_rm8_imm8_82 => {
            (Verb::Alu(Alu::And), Width::B1)
        }
        And_rm16_r16 | And_r16_rm16 | And_rm16_imm16 | And_rm16_imm8 => {
            (Verb::Alu(Alu::And), Width::B2)
        }
        And_rm32_r32 | And_r32_rm32 | And_rm32_imm32 | And_rm32_imm8 => {
            (Verb::Alu(Alu::And), Width::B4)
        }
        And_rm64_r64 | And_r64_rm64 | And_rm64_imm32 | And_rm64_imm8 => {
            (Verb::Alu(Alu::And), Width::B8)
        }
        Sub_rm8_r8 | Sub_r8_rm8 | Sub_rm8_imm8 | Sub_rm8_imm8_82 => {
            (Verb::Alu(Alu::Sub), Width::B1)
        }
        Sub_rm16_r16 | Sub_r16_rm16 | Sub_rm16_imm16 | Sub_rm16_imm8 => {
            (Verb::Alu(Alu::Sub), Width::B2)
        }
        Sub_rm32_r32 | Sub_r32_rm32 | Sub_rm32_imm32 | Sub_rm32_imm8 => {
            (Verb::Alu(Alu::Sub), Width::B4)
        }
        Sub_rm64_r64 | Sub_r64_rm64 | Sub_rm64_imm32 | Sub_rm64_imm8 => {
            (Verb::Alu(Alu::Sub), Width::B8)
        }
        Xor_rm8_r8 | Xor_r8_rm8 | Xor_rm8_imm8 | Xor_rm8_imm8_82 => {
            (Verb::Alu(Alu::Xor), Width::B1)
        }
        Xor_rm16_r16 | Xor_r16_rm16 | Xor_rm16_imm16 | Xor_rm16_imm8 => {
            (Verb::Alu(Alu::Xor), Width::B2)
        }
        Xor_rm32_r32 | Xor_r32_rm32 | Xor_rm32_imm32 | Xor_rm32_imm8 => {
            (Verb::Alu(Alu::Xor), Width::B4)
        }
        Xor_rm64_r64 | Xor_r64_rm64 | Xor_rm64_imm32 | Xor_rm64_imm8 => {
            (Verb::Alu(Alu::Xor), Width::B8)
        }
        Cmp_rm8_r8 | Cmp_r8_rm8 | Cmp_rm8_imm8 | Cmp_rm8_imm8_82 => (Verb::Compare, Width::B1),
        Cmp_rm16_r16 | Cmp_r16_rm16 | Cmp_rm16_imm16 | Cmp_rm16_imm8 => (Verb::Compare, Width::B2),
        Cmp_rm32_r32 | Cmp_r32_rm32 | Cmp_rm32_imm32 | Cmp_rm32_imm8 => (Verb::Compare, Width::B4),
        Cmp_rm64_r64 | Cmp_r64_rm64 | Cmp_rm64_imm32 | Cmp_rm64_imm8 => (Verb::Compare, Width::B8),
        Test_rm8_r8 | Test_rm8_imm8 | Test_rm8_imm8_F6r1 => (Verb::Test, Width::B1),
        Test_rm16_r16 | Test_rm16_imm16 | Test_rm16_imm16_F7r1 => (Verb::Test, Width::B2),
        Test_rm32_r32 | Test_rm32_imm32 | Test_rm32_imm32_F7r1 => (Verb::Test, Width::B4),
        Test_rm64_r64 | Test_rm64_imm32 | Test_rm64_imm32_F7r1 => (Verb::Test, Width::B8),
        Mov_rm8_r8 | Mov_r8_rm8 | Mov_AL_moffs8 | Mov_moffs8_AL | Mov_rm8_imm8 | Movzx_r16_rm8
        | Movzx_r32_rm8 | Movzx_r64_rm8 => (Verb::Move, Width::B1),
        Mov_rm16_r16 | Mov_r16_rm16 | Mov_AX_moffs16 | Mov_moffs16_AX | Mov_rm16_imm16
        | Movzx_r16_rm16 | Movzx_r32_rm16 | Movzx_r64_rm16 => (Verb::Move, Width::B2),
        Mov_rm32_r32 | Mov_r32_rm32 | Mov_EAX_moffs32 | Mov_moffs32_EAX | Mov_rm32_imm32
        | Movnti_m32_r32 => (Verb::Move, Width::B4),
        Mov_rm64_r64 | Mov_r64_rm64 | Mov_RAX_moffs64 | Mov_moffs64_RAX | Mov_rm64_imm32
        | Movnti_m64_r64 => (Verb::Move, Width::B8),
        Movsx_r16_rm8 | Movsx_r32_rm8 | Movsx_r64_rm8 => (Verb::MoveSigned, Width::B1),
        Movsxd_r16_rm16 | Movsx_r16_rm16 | Movsx_r32_rm16 | Movsx_r64_rm16 => {
            (Verb::MoveSigned, Width::B2)
        }
        Movsxd_r32_rm32 | Movsxd_r64_rm32 => (Verb::MoveSigned, Width::B4),
        Xchg_rm8_r8 => (Verb::Exchange, Width::B1),
        Xchg_rm16_r16 => (Verb::Exchange, Width::B2),
        Xchg_rm32_r32 => (Verb::Exchange, Width::B4),
        Xchg_rm64_r64 => (Verb::Exchange, Width::B8),
        Xadd_rm8_r8 => (Verb::ExchangeAdd, Width::B1),
        Xadd_rm16_r16 => (Verb::ExchangeAdd, Width::B2),
        Xadd_rm32_r32 => (Verb::ExchangeAdd, Width::B4),
        Xadd_rm64_r64 => (Verb::ExchangeAdd, Width::B8),
        Cmpxchg_rm8_r8 => (Verb::CompareExchange, Width::B1),
        Cmpxchg_rm16_r16 => (Verb::CompareExchange, Width::B2),
        Cmpxchg_rm32_r32 => (Verb::CompareExchange, Width::B4),
        Cmpxchg_rm64_r64 => (Verb::CompareExchange, Width::B8),
        Bt_rm16_r16 | Bt_rm16_imm8 => (Verb::Bit(BitOp::Test), Width::B2),
        Bt_rm32_r32 | Bt_rm32_imm8 => (Verb::Bit(BitOp::Test), Width::B4),
        Bt_rm64_r64 | Bt_rm64_imm8 => (Verb::Bit(BitOp::Test), Width::B8),
        Bts_rm16_r16 | Bts_rm16_imm8 => (Verb::Bit(BitOp::Set), Width::B2),
        Bts_rm32_r32 | Bts_rm32_imm8 => (Verb::Bit(BitOp::Set), Width::B4),
        Bts_rm64_r64 | Bts_rm64_imm8 => (Verb::Bit(BitOp::Set), Width::B8),
        Btr_rm16_r16 | Btr_rm16_imm8 => (Verb::Bit(BitOp::Reset), Width::B2),
        Btr_rm32_r32 | Btr_rm32_imm8 => (Verb::Bit(BitOp::Reset), Width::B4),
        Btr_rm64_r64 | Btr_rm64_imm8 => (Verb::Bit(BitOp::Reset), Width::B8),
        Btc_rm16_imm8 | Btc_rm16_r16 => (Verb::Bit(BitOp::Complement), Width::B2),
        Btc_rm32_imm8 | Btc_rm32_r32 => (Verb::Bit(BitOp::Complement), Width::B4),
        Btc_rm64_imm8 | Btc_rm64_r64 => (Verb::Bit(BitOp::Complement), Width::B8),
        Inc_rm8 => (Verb::Increment, Width::B1),
        Inc_rm16 => (Verb::Increment, Width::B2),
        Inc_rm32 => (Verb::Increment, Width::B4),
        Inc_rm64 => (Verb::Increment, Width::B8),
        Dec_rm8 => (Verb::Decrement, Width::B1),
        Dec_rm16 => (Verb::Decrement, Width::B2),
        Dec_rm32 => (Verb::Decrement, Width::B4),
        Dec_rm64 => (Verb::Decrement, Width::B8),
        Not_rm8 => (Verb::Not, Width::B1),
        Not_rm16 => (Verb::Not, Width::B2),
        Not_rm32 => (Verb::Not, Width::B4),
        Not_rm64 => (Verb::Not, Width::B8),
        Neg_rm8 => (Verb::Negate, Width::B1),
        Neg_rm16 => (Verb::Negate, Width::B2),
        Neg_rm32 => (Verb::Negate, Width::B4),
        Neg_rm64 => (Verb::Negate, Width::B8),
        Movsb_m8_m8 => (Verb::Movs, Width::B1),
        Movsw_m16_m16 => (Verb::Movs, Width::B2),
        Movsd_m32_m32 => (Verb::Movs, Width::B4),
        Movsq_m64_m64 => (Verb::Movs, Width::B8),
        Stosb_m8_AL => (Verb::Stos, Width::B1),
        Stosw_m16_AX => (Verb::Stos, Width::B2),
        Stosd_m32_EAX => (Verb::Stos, Width::B4),
        Stosq_m64_RAX => (Verb::Stos, Width::B8),
        Insb_m8_DX => (Verb::Ins, Width::B1),
        Insw_m16_DX => (Verb::Ins, Width::B2),
        Insd_m32_DX => (Verb::Ins, Width::B4),
        Outsb_DX_m8 => (Verb::Outs, Width::B1),
        Outsw_DX_m16 => (Verb::Outs, Width::B2),
        Outsd_DX_m32 => (Verb::Outs, Width::B4),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use iced_x86::{Instruction, MemorySize, Mnemonic, OpKind};

    use super::*;

    fn by_mnemonic(code: Code) -> Option<Verb> {
        use Mnemonic as M;
        Some(match code.mnemonic() {
            M::Add => Verb::Alu(Alu::Add),
            M::Or => Verb::Alu(Alu::Or),
            M::Adc => Verb::Alu(Alu::Adc),
            M::Sbb => Verb::Alu(Alu::Sbb),
            M::And => Verb::Alu(Alu::And),
            M::Sub => Verb::Alu(Alu::Sub),
            M::Xor => Verb::Alu(Alu::Xor),
            M::Cmp => Verb::Compare,
            M::Test => Verb::Test,
            M::Mov | M::Movzx | M::Movnti => Verb::Move,
            M::Movsx | M::Movsxd => Verb::MoveSigned,
            M::Xchg => Verb::Exchange,
            M::Xadd => Verb::ExchangeAdd,
            M::Cmpxchg => Verb::CompareExchange,
            M::Bt => Verb::Bit(BitOp::Test),
            M::Bts => Verb::Bit(BitOp::Set),
            M::Btr => Verb::Bit(BitOp::Reset),
            M::Btc => Verb::Bit(BitOp::Complement),
            M::Inc => Verb::Increment,
            M::Dec => Verb::Decrement,
            M::Not => Verb::Not,
            M::Neg => Verb::Negate,
            M::Movsb | M::Movsw | M::Movsd | M::Movsq => Verb::Movs,
            M::Stosb | M::Stosw | M::Stosd | M::Stosq => Verb::Stos,
            M::Insb | M::Insw | M::Insd => Verb::Ins,
            M::Outsb | M::Outsw | M::Outsd => Verb::Outs,
            _ => return None,
        })
    }

    fn by_memory(code: Code) -> Option<Width> {
        use MemorySize as S;
        let mut insn = Instruction::default();
        insn.set_code(code);
        insn.set_op0_kind(OpKind::Memory);
        Some(match insn.memory_size() {
            S::UInt8 | S::Int8 => Width::B1,
            S::UInt16 | S::Int16 => Width::B2,
            S::UInt32 | S::Int32 => Width::B4,
            S::UInt64 | S::Int64 => Width::B8,
            _ => return None,
        })
    }

    #[test]
    fn the_table_says_what_the_decoder_says() {
        let (mut emulated, mut differ) = (0, Vec::new());
        for code in Code::values() {
            let expected = by_mnemonic(code)
                .zip(by_memory(code))
                // No device's driver moves segment registers, and the decoder is not asked for a 486's.
                .filter(|_| {
                    !["Sreg", "486"]
                        .iter()
                        .any(|no| format!("{code:?}").contains(no))
                });
            if verb(code) != expected {
                differ.push((code, verb(code), expected));
            }
            emulated += usize::from(expected.is_some());
        }
        assert!(differ.is_empty(), "{differ:?}");
        assert!(emulated > 200, "{emulated}");
    }
}
