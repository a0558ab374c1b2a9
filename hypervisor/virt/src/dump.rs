//! A vcpu's state for a log that a person reads: what both vendors have.

use core::fmt;

use crate::backend::{Reg, SegReg, VcpuRegisters};

/// Whole lines; a back end's own follows.
pub(crate) fn dump(f: &mut fmt::Formatter<'_>, v: &dyn VcpuRegisters) -> fmt::Result {
    writeln!(
        f,
        "rip {:016x} rflags {:08x} cpl {}",
        v.get(Reg::Rip),
        v.get(Reg::Rflags),
        v.cpl()
    )?;
    let registers = v.gprs();
    for (i, name) in NAMES.iter().enumerate() {
        let end = if i % 4 == 3 { '\n' } else { ' ' };
        write!(f, "{name} {:016x}{end}", registers.get(i as u8))?;
    }
    writeln!(
        f,
        "cr0 {:x} cr2 {:x} cr3 {:x} cr4 {:x} cr8 {:x} efer {:x} xcr0 {:x}",
        v.get(Reg::Cr0),
        v.get(Reg::Cr2),
        v.get(Reg::Cr3),
        v.get(Reg::Cr4),
        v.get(Reg::Cr8),
        v.get(Reg::Efer),
        v.get(Reg::Xcr0)
    )?;
    for reg in SegReg::ALL {
        let g = v.segment(reg);
        writeln!(
            f,
            "{reg:?} {:04x} attr {:03x} base {:x} limit {:x}",
            g.selector, g.attr, g.base, g.limit
        )?;
    }
    Ok(())
}

const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8 ", "r9 ", "r10", "r11", "r12",
    "r13", "r14", "r15",
];
