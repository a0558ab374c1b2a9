//! Instructions that Rust has no words for.

use core::arch::asm;

pub const GENERAL_PROTECTION: u64 = 13;

pub fn cr3() -> u64 {
    let value;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr3", out(reg) value) };
    value
}

/// # Safety
/// The tables must map this kernel where it is, or the test has to expect its end.
pub unsafe fn set_cr3(value: u64) {
    // SAFETY: the caller's promise.
    unsafe { asm!("mov cr3, {}", in(reg) value) };
}

pub fn cr4() -> u64 {
    let value;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr4", out(reg) value) };
    value
}

/// May fault: to be guarded.
pub fn set_cr4(value: u64) {
    // SAFETY: bits that would take the mapping away are refused in long mode.
    unsafe { asm!("mov cr4, {}", in(reg) value) };
}

/// May fault: to be guarded.
pub fn rdmsr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads, or faults.
    unsafe { asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high) };
    u64::from(high) << 32 | u64::from(low)
}

/// May fault: to be guarded.
pub fn wrmsr(msr: u32, value: u64) {
    // SAFETY: the tests that write MSRs expect what comes of it.
    unsafe { asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32) };
}

/// May fault: to be guarded.
pub fn xsetbv(index: u32, value: u64) {
    // SAFETY: no extended state is in use by compiled code here.
    unsafe {
        asm!("xsetbv", in("ecx") index, in("eax") value as u32, in("edx") (value >> 32) as u32)
    };
}

/// CR4.PKE must be on.
pub fn rdpkru() -> u32 {
    let value;
    // SAFETY: reads a register.
    unsafe { asm!("rdpkru", in("ecx") 0, out("eax") value, out("edx") _) };
    value
}

pub fn enable_interrupts() {
    // SAFETY: every vector has a handler.
    unsafe { asm!("sti") };
}

pub fn disable_interrupts() {
    // SAFETY: no handler is waited for.
    unsafe { asm!("cli") };
}

/// The task priority's class.
pub fn set_cr8(class: u64) {
    // SAFETY: it holds interrupts back, no more.
    unsafe { asm!("mov cr8, {}", in(reg) class) };
}

/// Lets in what is pending.
pub fn interrupt_window() {
    // SAFETY: every vector has a handler. STI takes effect after one more instruction.
    unsafe { asm!("sti", "nop", "cli") };
}

/// Sleeps until an interrupt comes. Interrupts are off before and after.
pub fn sleep() {
    // SAFETY: every vector has a handler. STI takes effect after one more instruction: none is
    // missed.
    unsafe { asm!("sti", "hlt", "cli") };
}

/// A register of the local APIC, by its page.
pub fn apic_write(offset: u64, value: u32) {
    // SAFETY: the page is mapped one to one, and belongs to no memory of Rust's.
    unsafe { ((0xfee0_0000 + offset) as *mut u32).write_volatile(value) };
}
