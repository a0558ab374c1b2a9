//! The registers of a virtual CPU.

use super::segment::{Execution, SegReg, Segment};
use crate::fpu::Fpu;

/// The general registers, in the order of their numbers in instruction encodings.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[repr(C)]
#[expect(missing_docs, reason = "the fields are named as the registers are")]
pub struct Gprs {
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rbx: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
}

impl Gprs {
    /// The register with this number. Only the low four bits of the number count.
    pub fn get(&self, number: u8) -> u64 {
        match number & 15 {
            0 => self.rax,
            1 => self.rcx,
            2 => self.rdx,
            3 => self.rbx,
            4 => self.rsp,
            5 => self.rbp,
            6 => self.rsi,
            7 => self.rdi,
            8 => self.r8,
            9 => self.r9,
            10 => self.r10,
            11 => self.r11,
            12 => self.r12,
            13 => self.r13,
            14 => self.r14,
            _ => self.r15,
        }
    }

    /// Sets the register with this number. Only the low four bits of the number count.
    pub fn set(&mut self, number: u8, value: u64) {
        let slot = match number & 15 {
            0 => &mut self.rax,
            1 => &mut self.rcx,
            2 => &mut self.rdx,
            3 => &mut self.rbx,
            4 => &mut self.rsp,
            5 => &mut self.rbp,
            6 => &mut self.rsi,
            7 => &mut self.rdi,
            8 => &mut self.r8,
            9 => &mut self.r9,
            10 => &mut self.r10,
            11 => &mut self.r11,
            12 => &mut self.r12,
            13 => &mut self.r13,
            14 => &mut self.r14,
            _ => &mut self.r15,
        };
        *slot = value;
    }

    /// EDX:EAX, as RDMSR, WRMSR and XSETBV pass a 64-bit value.
    pub fn edx_eax(&self) -> u64 {
        (self.rdx << 32) | (self.rax & 0xffff_ffff)
    }

    /// Sets EDX:EAX and clears the upper halves of RDX and RAX.
    pub fn set_edx_eax(&mut self, value: u64) {
        self.rax = value & 0xffff_ffff;
        self.rdx = value >> 32;
    }
}

/// A 64-bit register beside the general registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the variants are named as the registers are")]
pub enum Reg {
    Rip,
    Rflags,
    Cr0,
    Cr2,
    Cr3,
    Cr4,
    /// The task priority as MOV CR8 sees it, 0 to 15.
    Cr8,
    Dr0,
    Dr1,
    Dr2,
    Dr3,
    Dr6,
    Dr7,
    Xcr0,
    Efer,
    Star,
    Lstar,
    Cstar,
    Sfmask,
    KernelGsBase,
    SysenterCs,
    SysenterEsp,
    SysenterEip,
    Pat,
    TscAux,
    SpecCtrl,
    VirtSpecCtrl,
}

/// The architectural state of a virtual CPU. It may be read and set while the vcpu is loaded on a
/// CPU, between two runs, and while it is not loaded.
pub trait VcpuRegisters: Send {
    /// The general registers.
    fn gprs(&self) -> &Gprs;
    /// The general registers, to change them.
    fn gprs_mut(&mut self) -> &mut Gprs;
    /// A register beside the general ones.
    fn get(&self, reg: Reg) -> u64;
    /// Sets a register without the checks that an instruction would make; those are in
    /// `crate::policy`.
    fn set(&mut self, reg: Reg, value: u64);
    /// A segment register with its hidden part.
    fn segment(&self, reg: SegReg) -> Segment;
    /// Sets a segment register with its hidden part, without an instruction's checks.
    fn set_segment(&mut self, reg: SegReg, segment: Segment);
    /// The current privilege level, 0 to 3.
    fn cpl(&self) -> u8;
    /// The registers that rule how the next instruction is found, decoded and translated.
    fn execution(&self) -> Execution;
    /// The FPU state. While the vcpu is loaded the CPU has the current state, and this is a stale
    /// copy.
    fn fpu(&self) -> &Fpu;
    /// The FPU state, to change it: not while the vcpu is loaded.
    fn fpu_mut(&mut self) -> &mut Fpu;
    /// The offset that is added to the host's TSC to give the guest's.
    fn tsc_offset(&self) -> u64;
    /// Sets the offset that is added to the host's TSC.
    fn set_tsc_offset(&mut self, offset: u64);
}
