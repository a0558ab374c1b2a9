//! A vcpu's state for a log that a person reads.

use core::fmt;

use super::vmcb::Vmcb;
use crate::backend::{Reg, SegReg, VcpuBackend};

pub(crate) fn dump(f: &mut fmt::Formatter<'_>, v: &dyn VcpuBackend, vmcb: &Vmcb) -> fmt::Result {
    let g = v.gprs();
    let (c, s) = (&vmcb.control, &vmcb.save);
    writeln!(
        f,
        "rip {:016x} rflags {:08x} cpl {}",
        s.rip, s.rflags, s.cpl
    )?;
    for (i, name) in NAMES.iter().enumerate() {
        let end = if i % 4 == 3 { '\n' } else { ' ' };
        write!(f, "{name} {:016x}{end}", g.get(i as u8))?;
    }
    writeln!(
        f,
        "cr0 {:x} cr2 {:x} cr3 {:x} cr4 {:x} cr8 {:x} efer {:x} xcr0 {:x}",
        s.cr0,
        s.cr2,
        s.cr3,
        s.cr4,
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
    write!(
        f,
        "exit {:x} info {:x} {:x} intinfo {:x} inj {:x} int_ctl {:x} shadow {:x} asid {} ncr3 {:x}",
        c.exit_code,
        c.exit_info1,
        c.exit_info2,
        c.exit_int_info,
        c.event_inj,
        c.int_ctl,
        c.int_state,
        c.asid,
        c.nested_cr3
    )
}

const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8 ", "r9 ", "r10", "r11", "r12",
    "r13", "r14", "r15",
];
