//! Segments, and how they and the control registers rule the execution of instructions.

use crate::x86::{CR0_PE, EFER_LMA, RFLAGS_VM};

/// A register with a base and a limit: the six segment registers, LDTR and TR, and the registers of
/// the two descriptor tables, which have no selector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the variants are named as the registers are")]
pub enum SegReg {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
    Ldtr,
    Tr,
    Gdtr,
    Idtr,
}

impl SegReg {
    /// All of them, in the order in which they are declared.
    pub const ALL: [Self; 10] = [
        Self::Es,
        Self::Cs,
        Self::Ss,
        Self::Ds,
        Self::Fs,
        Self::Gs,
        Self::Ldtr,
        Self::Tr,
        Self::Gdtr,
        Self::Idtr,
    ];
}

/// A segment register with its hidden part.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Segment {
    /// The selector, as MOV from the register reads it.
    pub selector: u16,
    /// Attributes, packed as in a VMCB: bits 0 to 7 are descriptor bits 40 to 47 (type, S, DPL, P),
    /// bits 8 to 11 are descriptor bits 52 to 55 (AVL, L, D/B, G).
    pub attr: u16,
    /// The limit in bytes, with the granularity applied.
    pub limit: u32,
    /// The linear address of the segment's first byte.
    pub base: u64,
}

impl Segment {
    /// A segment of these four values.
    pub const fn new(selector: u16, attr: u16, limit: u32, base: u64) -> Self {
        Self {
            selector,
            attr,
            limit,
            base,
        }
    }

    /// The L bit: in long mode, code of this segment is 64-bit code.
    pub const fn long(&self) -> bool {
        self.attr & (1 << 9) != 0
    }

    /// The D/B bit: operands and addresses have 32 bits by default.
    pub const fn big(&self) -> bool {
        self.attr & (1 << 10) != 0
    }
}

/// The mode in which the CPU decodes the next instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuMode {
    /// Real or virtual-8086 mode: loading a segment register sets its base to 16 times the
    /// selector.
    Real16,
    /// Protected mode, 16-bit code segment.
    Prot16,
    /// Protected or compatibility mode, 32-bit code segment.
    Prot32,
    /// 64-bit mode.
    Long64,
}

impl CpuMode {
    /// The default size of operands and addresses for the decoder: 16, 32 or 64.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Real16 | Self::Prot16 => 16,
            Self::Prot32 => 32,
            Self::Long64 => 64,
        }
    }
}

/// The registers that rule how the vcpu's next instruction is found, decoded and translated. They
/// are read together, as each exit that looks at an instruction needs most of them.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields are named as the registers are")]
pub struct Execution {
    pub rip: u64,
    pub rflags: u64,
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
    pub cs: Segment,
}

impl Execution {
    /// The mode in which the next instruction is decoded.
    pub fn mode(&self) -> CpuMode {
        if self.cr0 & CR0_PE == 0 || self.rflags & RFLAGS_VM != 0 {
            CpuMode::Real16
        } else if self.efer & EFER_LMA != 0 && self.cs.long() {
            CpuMode::Long64
        } else if self.cs.big() {
            CpuMode::Prot32
        } else {
            CpuMode::Prot16
        }
    }

    /// The linear address of the next instruction: at an exit, of the instruction that exited.
    pub fn linear_rip(&self) -> u64 {
        match self.mode() {
            CpuMode::Long64 => self.rip,
            _ => self.cs.base.wrapping_add(self.rip) & 0xffff_ffff,
        }
    }
}
