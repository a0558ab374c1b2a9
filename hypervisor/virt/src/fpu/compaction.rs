//! Does the CPU's XSAVEC do what it says? Bochs 2.7 counts the SSE state twice as it goes along, so
//! that the AVX state lands at 416 in place of 576, over the area's header: XRSTORS of such an area
//! raises #GP, and a system that switches its tasks so loses their state. Real CPUs pass; the
//! question costs one instruction at start.
#![allow(unsafe_code, reason = "XSAVE and its kin")]

use alloc::boxed::Box;
use core::arch::asm;

use super::{FpuLayout, HEADER, LEGACY, MXCSR, MXCSR_RESET, XCR0_AVX, XCR0_SSE, XCR0_X87, xsetbv};

const BYTES: usize = 1024;
const AVX_AT: usize = LEGACY + HEADER;
const AVX: core::ops::Range<usize> = AVX_AT..AVX_AT + 256;
/// Behind XSTATE_BV and XCOMP_BV.
const RESERVED: core::ops::Range<usize> = LEGACY + 16..LEGACY + HEADER;

#[repr(C, align(64))]
struct Area([u8; BYTES]);

/// On the CPU that runs this, which `enable_cpu` made ready. The FPU is in its initial state
/// afterwards.
pub(super) fn works(layout: &FpuLayout) -> bool {
    const MASK: u64 = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    if layout.xcr0 & MASK != MASK {
        return true;
    }
    let mut pattern = Box::new(Area([0; BYTES]));
    let mut initial = Box::new(Area([0; BYTES]));
    let mut found = Box::new(Area([0; BYTES]));
    for area in [&mut pattern, &mut initial] {
        area.0[MXCSR..MXCSR + 4].copy_from_slice(&MXCSR_RESET.to_le_bytes());
    }
    pattern.0[AVX].fill(0x5a);
    pattern.0[LEGACY] = XCR0_AVX as u8;
    // SAFETY: CR4.OSXSAVE is set and XCR0 gets bits that the CPU has; the areas are well formed and
    // larger than these components; nothing here uses the registers.
    unsafe {
        xsetbv(MASK);
        asm!(
            "xrstor64 [{pattern}]",
            "xsavec64 [{found}]",
            "xrstor64 [{initial}]",
            pattern = in(reg) &raw const pattern.0,
            found = in(reg) &raw mut found.0,
            initial = in(reg) &raw const initial.0,
            in("eax") MASK as u32,
            in("edx") 0,
        );
    }
    is_compacted(&found.0)
}

/// Whether `area`, zeroed before, holds the pattern as XSAVEC leaves it.
fn is_compacted(area: &[u8; BYTES]) -> bool {
    area[AVX].iter().all(|byte| *byte == 0x5a) && area[RESERVED].iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_over_the_header_is_told() {
        let mut area = [0; BYTES];
        area[AVX].fill(0x5a);
        assert!(is_compacted(&area));
        // As Bochs does it: behind the SSE state, which is 256 bytes at 160.
        let mut area = [0; BYTES];
        area[416..672].fill(0x5a);
        assert!(!is_compacted(&area));
        area[AVX].fill(0x5a);
        assert!(!is_compacted(&area));
    }
}
