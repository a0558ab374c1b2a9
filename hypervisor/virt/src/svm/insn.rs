//! The privileged instructions that AMD-V and the context switch need.
#![allow(unsafe_code, reason = "privileged instructions")]

use core::arch::asm;

pub(crate) use oxen_arch::cpu::msr::{rdmsr, wrmsr};
use oxen_types::Maddr;

/// Saves FS, GS, TR, LDTR and the system call MSRs of this CPU to the VMCB at `page`.
///
/// # Safety
/// SVM is enabled here, and `page` is a page of ours that nothing else uses now.
pub(crate) unsafe fn vmsave(page: Maddr) {
    // SAFETY: writes the page only (caller).
    unsafe { asm!("vmsave rax", in("rax") page.raw(), options(nostack, preserves_flags)) }
}

macro_rules! debug_registers {
    ($($read:ident $write:ident $name:literal),*) => { $(
        pub(crate) fn $read() -> u64 {
            let value;
            // SAFETY: reads a debug register at CPL 0; DR7.GD is never set in the host.
            unsafe {
                asm!(concat!("mov {}, ", $name), out(reg) value,
                     options(nomem, nostack, preserves_flags));
            }
            value
        }
        pub(crate) fn $write(value: u64) {
            // SAFETY: an address register of a breakpoint: inert while the host's DR7 enables
            // none, and #VMEXIT clears DR7.
            unsafe {
                asm!(concat!("mov ", $name, ", {}"), in(reg) value,
                     options(nomem, nostack, preserves_flags));
            }
        }
    )* };
}
debug_registers!(read_dr0 write_dr0 "dr0", read_dr1 write_dr1 "dr1",
                 read_dr2 write_dr2 "dr2", read_dr3 write_dr3 "dr3");
