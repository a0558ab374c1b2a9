//! The privileged instructions that VT-x and the context switch need.
#![allow(unsafe_code, reason = "privileged instructions")]

use core::arch::asm;

pub(super) use oxen_arch::cpu::msr::{rdmsr, wrmsr};
use oxen_types::Maddr;

/// The instruction failed: there is no current VMCS, or it refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Failed;

fn check(failed: u8) -> Result<(), Failed> {
    if failed == 0 { Ok(()) } else { Err(Failed) }
}

macro_rules! with_page {
    ($($name:ident $insn:literal),*) => { $(
        /// # Safety
        /// CR4.VMXE is on here, and `page` is a page of ours made for this.
        pub(super) unsafe fn $name(page: Maddr) -> Result<(), Failed> {
            let pointer = page.raw();
            let failed;
            // SAFETY: the CPU takes the page as its own (caller).
            unsafe {
                asm!(concat!($insn, " qword ptr [{}]"), "setna {}",
                     in(reg) &raw const pointer, out(reg_byte) failed, options(nostack));
            }
            check(failed)
        }
    )* };
}
with_page!(vmxon "vmxon", vmclear "vmclear", vmptrld "vmptrld");

/// A field of the current VMCS; 0 if there is none.
pub(super) fn vmread(field: u32) -> u64 {
    let value;
    // SAFETY: reads; VMX is on, or nothing of this module runs.
    unsafe {
        asm!("vmread {}, {}", inout(reg) 0u64 => value, in(reg) u64::from(field),
             options(nomem, nostack));
    }
    value
}

/// Writes a field of the current VMCS.
///
/// # Safety
/// The value keeps the hypervisor's own state and memory safe from the guest.
pub(super) unsafe fn vmwrite(field: u32, value: u64) {
    let failed: u8;
    // SAFETY: as the caller vouches.
    unsafe {
        asm!("vmwrite {}, {}", "setna {}", in(reg) u64::from(field), in(reg) value,
             out(reg_byte) failed, options(nostack));
    }
    debug_assert!(failed == 0, "VMWRITE of field {field:#x}");
}

/// How much INVEPT and INVVPID forget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub(super) enum Scope {
    One = 1,
    All = 2,
}

/// Drops translations that came through the nested tables of `eptp`, or all tables'. The scope must
/// be one that the CPU has.
pub(super) fn invept(scope: Scope, eptp: u64) {
    let descriptor = [eptp, 0];
    // SAFETY: forgets cached translations only.
    unsafe {
        asm!("invept {}, [{}]", in(reg) scope as u64, in(reg) &raw const descriptor,
             options(nostack));
    }
}

/// Drops translations of all VPIDs.
pub(super) fn invvpid_all() {
    let descriptor = [0u64; 2];
    // SAFETY: forgets cached translations only.
    unsafe {
        asm!("invvpid {}, [{}]", in(reg) Scope::All as u64, in(reg) &raw const descriptor,
             options(nostack));
    }
}

/// Runs the host's NMI handler, for an NMI that came as an exit; its IRET lets further ones in.
pub(super) fn raise_nmi() {
    // SAFETY: the gate is there, and its handler runs on a stack of its own.
    unsafe { asm!("int 2") }
}
