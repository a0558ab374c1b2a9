//! The effect of a switch of vcpus on the registers, with the CPU's own XRSTOR and XSAVE: XCR0
//! cannot be written here, so the mask that the back end would write to XCR0 takes its place.
#![allow(unsafe_code, reason = "XSAVE and its kin")]

use super::*;
use crate::x86::CpuIdReaderNative;

const AVX: u64 = XCR0_X87 | XCR0_SSE | XCR0_AVX;
const SECRET: u64 = 0x5ec2_e75e_c2e7_5ec2;

/// Whether the system that runs the tests lets programs use AVX.
fn has_avx() -> bool {
    // SAFETY: XGETBV exists where CPUID shows OSXSAVE.
    CpuIdReaderNative.cpuid2(1, 0).ecx & 1 << 27 != 0 && unsafe { xgetbv() } & AVX == AVX
}

fn layout() -> FpuLayout {
    FpuLayout {
        xcr0: AVX,
        size: 832,
        ..FpuLayout::none()
    }
}

/// The contents of YMM14 after another vcpu has run and `fpu` was loaded.
fn ymm14_after_load(fpu: &Fpu) -> [u64; 4] {
    let other = [SECRET; 4];
    let mut seen = [0u64; 4];
    let mask = fpu.switched();
    // SAFETY: the area has room for AVX, as the system lets us use; the register is told to be
    // overwritten, and so is all else that the ABI lets a call change.
    unsafe {
        asm!(
            "vmovups ymm14, [{other}]",
            "xrstor64 [{area}]",
            "vmovups [{seen}], ymm14",
            other = in(reg) other.as_ptr(),
            area = in(reg) fpu.area.as_ptr(),
            seen = in(reg) seen.as_mut_ptr(),
            in("eax") mask as u32,
            in("edx") (mask >> 32) as u32,
            clobber_abi("sysv64"),
        );
    }
    seen
}

#[test]
fn a_vcpu_that_enabled_nothing_sees_no_sse_state_of_another() {
    if !has_avx() {
        return;
    }
    let fpu = Fpu::new(layout()).unwrap();
    assert_eq!(fpu.xcr0(), XCR0_X87);
    assert_eq!(ymm14_after_load(&fpu)[..2], [0; 2]);
}

#[test]
fn a_component_enabled_while_loaded_is_in_its_initial_state() {
    if !has_avx() {
        return;
    }
    let mut fpu = Fpu::new(layout()).unwrap();
    let seen = ymm14_after_load(&fpu);
    fpu.set_xcr0(AVX);
    assert_eq!(seen, [0; 4]);
}

#[test]
fn whatever_a_guest_enabled_all_that_the_machine_has_is_switched() {
    let mut fpu = Fpu::new(FpuLayout {
        xcr0: XCR0_KNOWN,
        size: 2696,
        ..FpuLayout::none()
    })
    .unwrap();
    for value in [XCR0_X87, XCR0_X87 | XCR0_SSE, AVX, XCR0_X87] {
        fpu.set_xcr0(value);
        assert_eq!((fpu.switched(), fpu.xcr0()), (XCR0_KNOWN, value));
    }
}

#[test]
fn a_record_tells_of_sse_state_that_xcr0_never_had() {
    let mut fpu = Fpu::new(layout()).unwrap();
    assert_eq!(fpu.accumulated(), XCR0_X87);
    // As XSAVE leaves it: the guest used SSE by CR4.OSFXSR alone.
    fpu.put(LEGACY, &[(XCR0_X87 | XCR0_SSE) as u8]);
    let (area, xcr0, accumulated) = (Vec::from(fpu.area()), fpu.xcr0(), fpu.accumulated());
    assert_eq!(accumulated, XCR0_X87 | XCR0_SSE);
    let mut other = Fpu::new(layout()).unwrap();
    other.set_area(&area, xcr0, accumulated).unwrap();
    assert_eq!(other.xcr0(), XCR0_X87);
}
