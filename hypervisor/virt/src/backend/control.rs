//! Operations on control registers.

use oxen_types::Vaddr;

/// The operation of an instruction on a control register. General registers are named by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlOp {
    /// MOV from a control register.
    #[expect(
        missing_docs,
        reason = "control register and general register, by number"
    )]
    Read { control: u8, register: u8 },
    /// MOV to a control register.
    #[expect(
        missing_docs,
        reason = "control register and general register, by number"
    )]
    Write { control: u8, register: u8 },
    /// CLTS.
    Clts,
    /// LMSW.
    LoadStatus(Operand),
    /// SMSW.
    StoreStatus(Operand),
    /// INVLPG. The register that holds the address, or `None` for other operands.
    #[expect(missing_docs, reason = "a general register, by number")]
    Invlpg { register: Option<u8> },
}

/// The operand of LMSW and SMSW.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operand {
    /// A general register. If `narrow`, the operand has 16 bits and the rest of the register stays
    /// as it is.
    #[expect(missing_docs, reason = "a general register, by number")]
    Register { number: u8, narrow: bool },
    /// 16 bits at a linear address.
    Memory(Vaddr),
}
