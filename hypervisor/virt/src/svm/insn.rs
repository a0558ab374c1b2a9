//! The privileged instructions that AMD-V and the context switch need.
#![allow(unsafe_code, reason = "privileged instructions")]

use core::arch::asm;

use oxen_types::Maddr;

/// # Safety
/// The CPU must have the MSR, at CPL 0.
pub(crate) unsafe fn rdmsr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading an MSR that exists (caller) has no effect on memory.
    unsafe {
        asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high,
             options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// # Safety
/// The CPU must have the MSR, and the value must keep the hypervisor's own state sound.
pub(crate) unsafe fn wrmsr(msr: u32, value: u64) {
    // SAFETY: as the caller vouches. Not `nomem`: a write can change how memory is seen.
    unsafe {
        asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32,
             options(nostack, preserves_flags));
    }
}

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
