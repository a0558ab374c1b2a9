//! Saving and loading the FPU, SSE and extended state of guests. Hypervisor code is soft-float and
//! never touches these registers. Intel SDM 1, chapter 13; AMD APM 2, 11.5.
#![allow(unsafe_code)] // state instructions on raw areas

use core::arch::asm;

/// The area of FXSAVE and the first part of XSAVE's.
pub const LEGACY_AREA: usize = 512;
/// Alignment of any area.
pub const ALIGN: usize = 64;

macro_rules! with_area {
    ($(#[$doc:meta])* $name:ident, $instruction:literal) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// `area` is 64-byte aligned and as large as CPUID leaf 0xd says for `mask`; for loads it
        /// holds an image whose header and MXCSR are valid; XSAVE is on (CR4.OSXSAVE).
        pub unsafe fn $name(area: *mut u8, mask: u64) {
            // SAFETY: by the contract above.
            unsafe {
                asm!(concat!($instruction, " [{}]"), in(reg) area,
                    in("eax") mask as u32, in("edx") (mask >> 32) as u32,
                    options(nostack, preserves_flags));
            }
        }
    };
}

with_area!(
    /// Saves the components of `mask`.
    xsave, "xsave64");
with_area!(
    /// As `xsave`, leaving out what is unchanged since the last load from the same area.
    xsaveopt, "xsaveopt64");
with_area!(
    /// Saves compacted, with supervisor components.
    xsaves, "xsaves64");
with_area!(
    /// Loads the components of `mask`.
    xrstor, "xrstor64");
with_area!(
    /// Loads a compacted image with supervisor components.
    xrstors, "xrstors64");

/// Loads like `xrstor`; false if the CPU refuses the image (#GP), with the state unchanged or reset.
///
/// # Safety
/// `area` is 64-byte aligned, large enough for `mask`; XSAVE is on. The image may be anything.
#[must_use]
pub unsafe fn xrstor_safe(area: *const u8, mask: u64) -> bool {
    let failed: u32;
    // SAFETY: a #GP at label 2 continues at label 3 with `failed` still set.
    unsafe {
        asm!(
            "2: xrstor64 [{area}]",
            "xor {failed:e}, {failed:e}",
            "3:",
            ".pushsection .ex_table, \"a\", @progbits",
            ".long 2b - .",
            ".long 3b - .",
            ".popsection",
            area = in(reg) area,
            failed = inout(reg) 1u32 => failed,
            in("eax") mask as u32, in("edx") (mask >> 32) as u32,
            options(nostack, readonly));
    }
    failed == 0
}

/// # Safety
/// `area` is 16-byte aligned and 512 bytes long.
pub unsafe fn fxsave(area: *mut u8) {
    // SAFETY: by the contract above.
    unsafe { asm!("fxsave64 [{}]", in(reg) area, options(nostack, preserves_flags)) }
}

/// # Safety
/// `area` is 16-byte aligned and holds an image with a valid MXCSR.
pub unsafe fn fxrstor(area: *const u8) {
    // SAFETY: by the contract above.
    unsafe { asm!("fxrstor64 [{}]", in(reg) area, options(nostack, preserves_flags, readonly)) }
}

/// # Safety
/// CR4.OSXSAVE is on.
pub unsafe fn xgetbv(register: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: by the contract above.
    unsafe {
        asm!("xgetbv", in("ecx") register, out("eax") low, out("edx") high,
            options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// # Safety
/// CR4.OSXSAVE is on, and the CPU allows the value (see CPUID leaf 0xd).
pub unsafe fn xsetbv(register: u32, value: u64) {
    // SAFETY: by the contract above.
    unsafe {
        asm!("xsetbv", in("ecx") register, in("eax") value as u32,
            in("edx") (value >> 32) as u32, options(nomem, nostack, preserves_flags));
    }
}
