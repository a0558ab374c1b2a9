//! The registers at a trap, in the order in which stubs.s pushes them.

use core::fmt;

use x86_64::registers::control::{Cr0, Cr2, Cr4};

use crate::cpu::regs;

/// The interrupted code's registers, on the stack of the trap.
#[derive(Clone, Debug)]
#[repr(C)]
#[expect(missing_docs, reason = "the registers bear the manuals' names")]
pub struct TrapFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rax: u64,
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl TrapFrame {
    /// The exception's name, or "interrupt".
    pub fn name(&self) -> &'static str {
        const NAMES: [&str; 32] = [
            "divide error",
            "debug",
            "NMI",
            "breakpoint",
            "overflow",
            "bound range",
            "invalid opcode",
            "no coprocessor",
            "double fault",
            "coprocessor overrun",
            "invalid TSS",
            "segment not present",
            "stack fault",
            "general protection",
            "page fault",
            "vector 15",
            "x87 error",
            "alignment check",
            "machine check",
            "SIMD error",
            "virtualization",
            "control protection",
            "vector 22",
            "vector 23",
            "vector 24",
            "vector 25",
            "vector 26",
            "vector 27",
            "hypervisor injection",
            "VMM communication",
            "security",
            "vector 31",
        ];
        usize::try_from(self.vector)
            .ok()
            .and_then(|v| NAMES.get(v))
            .unwrap_or(&"interrupt")
    }
}

impl fmt::Display for TrapFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "rip {:04x}:{:016x}  rflags {:08x}  rsp {:04x}:{:016x}",
            self.cs, self.rip, self.rflags, self.ss, self.rsp
        )?;
        for row in [
            [("rax", self.rax), ("rbx", self.rbx), ("rcx", self.rcx)],
            [("rdx", self.rdx), ("rsi", self.rsi), ("rdi", self.rdi)],
            [("rbp", self.rbp), ("r8 ", self.r8), ("r9 ", self.r9)],
            [("r10", self.r10), ("r11", self.r11), ("r12", self.r12)],
            [("r13", self.r13), ("r14", self.r14), ("r15", self.r15)],
            [
                ("cr0", Cr0::read_raw()),
                ("cr2", Cr2::read_raw()),
                ("cr3", regs::page_table_root().raw()),
            ],
        ] {
            let [a, b, c] = row;
            writeln!(
                f,
                "{} {:016x}  {} {:016x}  {} {:016x}",
                a.0, a.1, b.0, b.1, c.0, c.1
            )?;
        }
        write!(f, "cr4 {:016x}", Cr4::read_raw())
    }
}
