//! Model-specific registers. The `_safe` forms survive #GP through the fixup table (`trap::fixup`).
#![allow(unsafe_code, reason = "RDMSR and WRMSR")]

use core::arch::asm;

use x86_64::registers::model_specific::Msr;

/// Reads a register by its number.
///
/// # Safety
/// The register exists on this CPU, and reading it has no side effect that breaks the hypervisor.
pub unsafe fn rdmsr(register: u32) -> u64 {
    // SAFETY: the caller vouches for the register.
    unsafe { Msr::new(register).read() }
}

/// Writes a register by its number.
///
/// # Safety
/// The value is allowed for the register, and its effect keeps the hypervisor's invariants.
pub unsafe fn wrmsr(register: u32, value: u64) {
    // SAFETY: the caller vouches for the register and the value.
    unsafe { Msr::new(register).write(value) }
}

/// The register's value, or `None` if this CPU has no such register.
pub fn rdmsr_safe(register: u32) -> Option<u64> {
    let (low, high, failed): (u32, u32, u32);
    // SAFETY: a #GP at label 2 continues at label 3 with `failed` still set. Reading has no effect
    // on memory safety.
    unsafe {
        asm!(
            "2: rdmsr",
            "xor {failed:e}, {failed:e}",
            "3:",
            ".pushsection .ex_table, \"a\", @progbits",
            ".long 2b - .",
            ".long 3b - .",
            ".popsection",
            failed = inout(reg) 1u32 => failed,
            in("ecx") register, inout("eax") 0u32 => low, inout("edx") 0u32 => high,
            options(nomem, nostack));
    }
    (failed == 0).then_some(u64::from(high) << 32 | u64::from(low))
}

/// Writes the register; false if this CPU refused.
///
/// # Safety
/// If the CPU takes the value, its effect keeps the hypervisor's invariants.
#[must_use]
pub unsafe fn wrmsr_safe(register: u32, value: u64) -> bool {
    let failed: u32;
    // SAFETY: a #GP at label 2 continues at label 3 with `failed` still set; the
    // caller vouches for what the value does if the CPU takes it.
    unsafe {
        asm!(
            "2: wrmsr",
            "xor {failed:e}, {failed:e}",
            "3:",
            ".pushsection .ex_table, \"a\", @progbits",
            ".long 2b - .",
            ".long 3b - .",
            ".popsection",
            failed = inout(reg) 1u32 => failed,
            in("ecx") register, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack));
    }
    failed == 0
}
