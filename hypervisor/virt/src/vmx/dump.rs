//! A vcpu's state for a log that a person reads.

use core::fmt;

use super::state;
use super::vcpu::VmxVcpu;
use crate::backend::{Reg, SegReg, VcpuBackend};

pub(super) fn dump(f: &mut fmt::Formatter<'_>, v: &VmxVcpu) -> fmt::Result {
    let g = v.gprs();
    writeln!(
        f,
        "rip {:016x} rflags {:08x} cpl {}",
        v.get(Reg::Rip),
        v.get(Reg::Rflags),
        v.cpl()
    )?;
    for (i, name) in NAMES.iter().enumerate() {
        let end = if i % 4 == 3 { '\n' } else { ' ' };
        write!(f, "{name} {:016x}{end}", g.get(i as u8))?;
    }
    writeln!(
        f,
        "cr0 {:x} ({:x}) cr2 {:x} cr3 {:x} cr4 {:x} ({:x}) cr8 {:x} efer {:x} xcr0 {:x}",
        v.get(Reg::Cr0),
        v.state.get(state::CR0),
        v.get(Reg::Cr2),
        v.get(Reg::Cr3),
        v.get(Reg::Cr4),
        v.state.get(state::CR4),
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
        "exit {:x} qualification {:x} gpa {:x} pending {:?} proc {:x} entry {:x} blocked {:x} vpid {:x} eptp {:x}",
        v.info.reason,
        v.info.qualification,
        v.info.guest_physical,
        v.pending_event(),
        v.state.get(state::PROC_CONTROLS),
        v.state.get(state::ENTRY_CONTROLS),
        v.state.get(state::INTERRUPTIBILITY),
        v.state.get(state::VPID),
        v.state.get(state::EPTP)
    )
}

const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8 ", "r9 ", "r10", "r11", "r12",
    "r13", "r14", "r15",
];
