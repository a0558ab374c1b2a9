//! Register accesses that the crate `x86_64` does not have: CR2 and DR6 written, a TLB flush that
//! reaches global translations, an ordered RDTSC, WBINVD, and a halt for good.
//!
//! Everything else is taken from the crate: `x86_64::registers` and `x86_64::instructions`.
#![allow(unsafe_code, reason = "privileged instructions")]

use core::arch::asm;

use oxen_types::Maddr;
use x86_64::PhysAddr;
use x86_64::instructions::random::RdRand;
use x86_64::instructions::{hlt, interrupts, tlb};
use x86_64::registers::control::{Cr3, Cr3Flags, Cr4, Cr4Flags};
use x86_64::structures::paging::PhysFrame;

/// The registers that CPUID returns for a leaf and a subleaf.
pub use raw_cpuid::native_cpuid::cpuid_count as cpuid;

/// Writes CR2, which a guest reads after its next page fault.
///
/// # Safety
/// No page fault of the hypervisor is being handled on this CPU: its handler reads CR2.
pub unsafe fn set_cr2(value: u64) {
    // SAFETY: nothing of the hypervisor depends on CR2, as the caller vouches.
    unsafe { asm!("mov cr2, {}", in(reg) value, options(nostack, preserves_flags)) }
}

/// Writes the debug status register, DR6.
///
/// # Safety
/// The upper half of `value` is zero: else the CPU raises #GP.
pub unsafe fn set_dr6(value: u64) {
    // SAFETY: DR6 only reports; the caller vouches that the CPU takes the value.
    unsafe { asm!("mov dr6, {}", in(reg) value, options(nostack, preserves_flags)) }
}

/// The root of the page tables in use.
pub fn page_table_root() -> Maddr {
    let (root, _) = Cr3::read_raw();
    Maddr::new(root.start_address().as_u64())
}

/// Installs other page tables, and drops this CPU's translations but global ones.
///
/// # Safety
/// The new tables map everything that this CPU goes on to use at the same addresses: code, stack
/// and data.
pub unsafe fn set_page_table_root(root: Maddr) {
    let root = PhysFrame::containing_address(PhysAddr::new_truncate(root.raw()));
    // SAFETY: what this CPU uses stays mapped, as the caller vouches.
    unsafe { Cr3::write(root, Cr3Flags::empty()) }
}

/// Drops all of this CPU's translations, global ones too.
pub fn flush_tlb_local() {
    let flags = Cr4::read_raw();
    let global = Cr4Flags::PAGE_GLOBAL.bits();
    if flags & global == 0 {
        return tlb::flush_all();
    }
    // SAFETY: CR4 ends as it was. Each change of PGE flushes everything (Intel SDM 3, 4.10.4.1).
    unsafe {
        Cr4::write_raw(flags & !global);
        Cr4::write_raw(flags);
    }
}

/// The time-stamp counter, read after all earlier instructions have completed.
pub fn rdtsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: RDTSC is not restricted here (CR4.TSD is clear). LFENCE keeps it from running early.
    unsafe {
        asm!("lfence", "rdtsc", out("eax") low, out("edx") high,
            options(nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// A random number of the CPU's own; `None` if it has no such source (RDRAND), or no number now.
pub fn random() -> Option<u64> {
    RdRand::new()?.get_u64()
}

/// Stops this CPU for good.
pub fn halt_forever() -> ! {
    loop {
        // With interrupts off only an NMI wakes the CPU, and then it halts again.
        interrupts::disable();
        hlt();
    }
}

/// Writes back and empties all caches.
pub fn wbinvd() {
    // SAFETY: has no effect but on time.
    unsafe { asm!("wbinvd", options(nostack, preserves_flags)) }
}
