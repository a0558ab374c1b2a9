//! The FPU, SSE, AVX, AVX-512 and PKRU state of a vcpu (APM volume 2, 11.5; SDM volume 1, 13).
//!
//! Switched eagerly: a vcpu that is loaded has all of its state in the registers, and XCR0 is the
//! guest's. The hypervisor itself is soft-float and never touches it.
//!
//! Every component that the machine can give to a guest is switched each time, whatever the guest
//! has enabled. XCR0 does not tell what a guest can reach: SSE instructions need CR4.OSFXSR alone,
//! RDPKRU needs CR4.PKE alone (SDM volume 1, 13.3), and a component that a guest enables later must
//! not show another guest's state. What a guest never used is in its initial state, which costs
//! XRSTOR nothing (XSTATE_BV).
#![allow(unsafe_code, reason = "XSAVE and its kin")]

mod compaction;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::asm;

use bytemuck::{Pod, Zeroable};

use oxen_arch::cpu::msr::wrmsr;

use crate::error::VirtError;
use crate::x86::{CR0_EM, CR0_MP, CR0_TS, CR4_OSFXSR, CR4_OSXMMEXCPT, CR4_OSXSAVE, CpuIdReader};

pub const XCR0_X87: u64 = 1;
pub const XCR0_SSE: u64 = 1 << 1;
pub const XCR0_AVX: u64 = 1 << 2;
pub const XCR0_AVX512: u64 = 7 << 5;
pub const XCR0_PKRU: u64 = 1 << 9;
/// The components that we know how to offer.
const XCR0_KNOWN: u64 = XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_AVX512 | XCR0_PKRU;

const MSR_XSS: u32 = 0xda0;
const LEGACY: usize = 512;
const HEADER: usize = 64;
const MXCSR: usize = 24;
const MXCSR_MASK: usize = 28;
const MXCSR_RESET: u32 = 0x1f80;
const FCW_RESET: u16 = 0x37f;

/// The state that this machine's CPUs can save.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FpuLayout {
    /// Components that guests may use; 0 where there is no XSAVE.
    pub xcr0: u64,
    /// Bytes of the area in the standard format.
    pub size: usize,
    /// Guests may use XSAVEC.
    pub xsavec: bool,
    /// Guests may use XSAVES and XRSTORS, for the same components: no supervisor state is switched.
    pub xsaves: bool,
    /// The CPU has XSAVES, and so the register IA32_XSS, whether guests are told or not.
    has_xss: bool,
    /// Restoring leaves the last instruction and data pointers of the x87 as they are when no
    /// exception is pending (older AMD): they must be overwritten between guests.
    stale_pointers: bool,
}

impl FpuLayout {
    /// FXSAVE only.
    #[cfg(not(target_os = "none"))]
    pub(crate) fn none() -> Self {
        Self {
            xcr0: 0,
            size: LEGACY,
            xsavec: false,
            xsaves: false,
            has_xss: false,
            stale_pointers: false,
        }
    }

    pub fn detect(cpuid: &impl CpuIdReader) -> Self {
        let amd_ext = if cpuid.cpuid2(0x8000_0000, 0).eax >= 0x8000_0008 {
            cpuid.cpuid2(0x8000_0008, 0).ebx
        } else {
            0
        };
        let stale_pointers = amd_ext & (1 << 2) == 0;
        let has_xsave = cpuid.cpuid2(1, 0).ecx & (1 << 26) != 0;
        let max = cpuid.cpuid2(0, 0).eax;
        if !has_xsave || max < 0xd {
            return Self {
                xcr0: 0,
                size: LEGACY,
                xsavec: false,
                xsaves: false,
                has_xss: false,
                stale_pointers,
            };
        }
        let leaf = cpuid.cpuid2(0xd, 0);
        let mut xcr0 = (u64::from(leaf.edx) << 32 | u64::from(leaf.eax)) & XCR0_KNOWN;
        if xcr0 & XCR0_AVX512 != XCR0_AVX512 || xcr0 & XCR0_AVX == 0 {
            xcr0 &= !XCR0_AVX512;
        }
        let more = cpuid.cpuid2(0xd, 1).eax;
        Self {
            xcr0,
            size: area_size(cpuid, xcr0),
            xsavec: more & (1 << 1) != 0,
            xsaves: more & (1 << 3) != 0,
            has_xss: more & (1 << 3) != 0,
            stale_pointers,
        }
    }

    /// Leaves out what this CPU, on which it makes the FPU usable, does wrong.
    pub(crate) fn check(&mut self) {
        enable_cpu(self);
        if self.xsavec && !compaction::works(self) {
            log::warn!(
                "XSAVEC writes over its area's header here (Bochs 2.7 does): guests have neither XSAVEC nor XSAVES"
            );
            (self.xsavec, self.xsaves) = (false, false);
        }
    }
}

/// Bytes of an area in the standard format that has the components of `xcr0`.
pub fn area_size(cpuid: &impl CpuIdReader, xcr0: u64) -> usize {
    (2..63)
        .filter(|bit| xcr0 & (1 << bit) != 0)
        .map(|bit| {
            let sub = cpuid.cpuid2(0xd, bit);
            sub.ebx as usize + sub.eax as usize
        })
        .fold(LEGACY + HEADER, usize::max)
}

/// Whether a guest whose policy allows `allowed` may set XCR0 to `value`.
pub fn xcr0_is_valid(value: u64, allowed: u64) -> bool {
    let avx512 = value & XCR0_AVX512;
    value & !allowed == 0
        && value & XCR0_X87 != 0
        && (value & XCR0_AVX == 0 || value & XCR0_SSE != 0)
        && (avx512 == 0 || (avx512 == XCR0_AVX512 && value & XCR0_AVX != 0))
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// One vcpu's state.
pub struct Fpu {
    layout: FpuLayout,
    xcr0: u64,
    /// Every bit that the guest has ever set in XCR0. For the save record only.
    accumulated: u64,
    area: Box<[Line]>,
}

impl Fpu {
    pub fn new(layout: FpuLayout) -> Result<Self, VirtError> {
        let lines = layout.size.div_ceil(64);
        let mut area = Vec::new();
        area.try_reserve_exact(lines)
            .map_err(|_| VirtError::NoMemory)?;
        area.resize(lines, Line([0; 64]));
        let mut fpu = Self {
            layout,
            xcr0: XCR0_X87,
            accumulated: XCR0_X87,
            area: area.into_boxed_slice(),
        };
        fpu.reset();
        Ok(fpu)
    }

    pub fn reset(&mut self) {
        (self.xcr0, self.accumulated) = (XCR0_X87, XCR0_X87);
        self.area.fill(Line([0; 64]));
        self.put(0, &FCW_RESET.to_le_bytes());
        self.put(MXCSR, &MXCSR_RESET.to_le_bytes());
        // XSTATE_BV stays 0: the initial configuration. With FXRSTOR, an empty tag word does it.
    }

    pub fn layout(&self) -> FpuLayout {
        self.layout
    }

    pub fn xcr0(&self) -> u64 {
        self.xcr0
    }

    /// All that the guest has ever set in XCR0, and what is in use besides, as of the last `save`:
    /// a guest may have SSE state without it.
    pub fn accumulated(&self) -> u64 {
        self.accumulated | self.in_use()
    }

    /// XSTATE_BV of the area: components that are not in their initial state.
    fn in_use(&self) -> u64 {
        let header = self.area().get(LEGACY..LEGACY + 8);
        let header = header.and_then(|bytes| bytes.try_into().ok());
        header.map_or(0, u64::from_le_bytes)
    }

    /// The components that each switch of vcpus restores and saves: all that a guest can reach.
    fn switched(&self) -> u64 {
        self.layout.xcr0
    }

    /// A value that `xcr0_is_valid` has passed. Effective at the next `load`.
    pub fn set_xcr0(&mut self, value: u64) {
        let value = value & self.layout.xcr0 | XCR0_X87;
        self.xcr0 = value;
        self.accumulated |= value;
    }

    /// The area in XSAVE's standard format (without XSAVE: FXSAVE's), as of the last `save`.
    pub fn area(&self) -> &[u8] {
        bytemuck::cast_slice(&self.area)
    }

    /// Replaces the state by one from a stream. XRSTOR must not fault on it in the hypervisor, so
    /// everything it checks is checked here.
    pub fn set_area(
        &mut self,
        bytes: &[u8],
        xcr0: u64,
        accumulated: u64,
    ) -> Result<(), BadFpuState> {
        let xsave = self.layout.xcr0 != 0;
        let word = |at: usize| -> Option<u32> {
            Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
        };
        let quad = |at: usize| Some(u64::from(word(at)?) | u64::from(word(at + 4)?) << 32);
        let mxcsr = word(MXCSR).ok_or(BadFpuState)?;
        if mxcsr & !0xffff != 0 || bytes.len() > self.layout.size {
            return Err(BadFpuState);
        }
        if xsave {
            let header: [u64; 8] = {
                let mut words = [0; 8];
                for (i, w) in words.iter_mut().enumerate() {
                    *w = quad(LEGACY + i * 8).ok_or(BadFpuState)?;
                }
                words
            };
            let valid = (accumulated | xcr0) & !self.layout.xcr0 == 0
                && xcr0_is_valid(xcr0, self.layout.xcr0)
                && header[0] & !(accumulated | xcr0) == 0
                && header[1..].iter().all(|&w| w == 0);
            if !valid {
                return Err(BadFpuState);
            }
            self.xcr0 = xcr0;
            self.accumulated = accumulated | xcr0;
        }
        self.area.fill(Line([0; 64]));
        self.put(0, bytes);
        // Bits the CPU lacks would fault: the mask word is the CPU's to tell, not the stream's.
        self.put(MXCSR_MASK, &[0; 4]);
        Ok(())
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (slot, byte) in self
            .area
            .iter_mut()
            .flat_map(|l| &mut l.0)
            .skip(at)
            .zip(bytes)
        {
            *slot = *byte;
        }
    }

    /// Into the registers of this CPU.
    pub(crate) fn load(&mut self) {
        let area = self.area.as_ptr();
        if self.layout.stale_pointers {
            // SAFETY: clears pending exceptions and loads an integer from our own memory, which
            // overwrites the pointers; the state that it disturbs is replaced next.
            unsafe {
                let zero = 0i32;
                asm!("fnclex", "ffree st(7)", "fild dword ptr [{}]", in(reg) &raw const zero,
                     options(nostack));
            }
        }
        if self.layout.xcr0 == 0 {
            // SAFETY: 512 bytes, 64-byte aligned, with a valid MXCSR.
            unsafe { asm!("fxrstor64 [{}]", in(reg) area, options(nostack)) };
            return;
        }
        let all = self.switched();
        // SAFETY: CR4.OSXSAVE is set (`enable_cpu`); XCR0's value is a valid one of this machine;
        // the area covers all of the layout's components, is 64-byte aligned and has a header that
        // `reset`, `save` or `set_area` made valid.
        unsafe {
            xsetbv(all);
            xrstor(area.cast(), all);
            if self.xcr0 != all {
                xsetbv(self.xcr0);
            }
        }
    }

    /// Out of the registers of this CPU.
    pub(crate) fn save(&mut self) {
        let area = self.area.as_mut_ptr();
        if self.layout.xcr0 == 0 {
            // SAFETY: 512 bytes of ours, aligned.
            unsafe { asm!("fxsave64 [{}]", in(reg) area, options(nostack)) };
            return;
        }
        let all = self.switched();
        // SAFETY: as in `load`. The mask keeps to what the area has room for, whatever XCR0 holds.
        unsafe {
            if self.xcr0 != all {
                xsetbv(all);
            }
            asm!("xsave64 [{}]", in(reg) area, in("eax") all as u32, in("edx") (all >> 32) as u32,
                 options(nostack));
        }
    }

    /// XCR0 of this CPU, where this state is in the registers.
    pub(crate) fn xcr0_of_cpu(&self) -> u64 {
        if self.layout.xcr0 == 0 {
            return self.xcr0;
        }
        // SAFETY: CR4.OSXSAVE is set (`enable_cpu`).
        unsafe { xgetbv() }
    }

    /// For a CPU that lets guests change XCR0 by themselves: takes it as it is now. Nobody knows
    /// what else it was in between, so the record says that it was everything.
    pub(crate) fn adopt_xcr0(&mut self) {
        let value = self.xcr0_of_cpu();
        if value != self.xcr0 {
            self.set_xcr0(value);
            self.accumulated = self.layout.xcr0 | XCR0_X87;
        }
    }

    /// Sets XCR0 while this state is in the registers.
    pub(crate) fn set_xcr0_loaded(&mut self, value: u64) {
        self.set_xcr0(value);
        if self.layout.xcr0 != 0 {
            // SAFETY: CR4.OSXSAVE is set and `set_xcr0` left valid bits only.
            unsafe { xsetbv(self.xcr0) };
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadFpuState;

/// # Safety
/// CR4.OSXSAVE is set.
unsafe fn xgetbv() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: as the caller vouches.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high,
             options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// # Safety
/// XCR0 has the components of `mask`; the area has room for them and a valid header; compiled code
/// uses none of them.
unsafe fn xrstor(area: *const u8, mask: u64) {
    // SAFETY: as the caller vouches.
    unsafe {
        asm!("xrstor64 [{}]", in(reg) area, in("eax") mask as u32, in("edx") (mask >> 32) as u32,
             options(nostack));
    }
}

/// # Safety
/// CR4.OSXSAVE is set and `value` is valid for this CPU.
unsafe fn xsetbv(value: u64) {
    // SAFETY: as the caller vouches.
    unsafe {
        asm!("xsetbv", in("ecx") 0, in("eax") value as u32, in("edx") (value >> 32) as u32,
             options(nomem, nostack, preserves_flags));
    }
}

/// Makes the FPU of this CPU usable for `load` and `save`: once, at bring-up.
pub(crate) fn enable_cpu(layout: &FpuLayout) {
    let mut cr4_bits = CR4_OSFXSR | CR4_OSXMMEXCPT;
    if layout.xcr0 != 0 {
        cr4_bits |= CR4_OSXSAVE;
    }
    // SAFETY: switches FPU instructions on at CPL 0; the CPU has what `layout` tells. Nothing in
    // the hypervisor depends on their being off.
    unsafe {
        let (mut cr0, mut cr4): (u64, u64);
        asm!("mov {}, cr0", "mov {}, cr4", out(reg) cr0, out(reg) cr4,
             options(nomem, nostack, preserves_flags));
        cr0 = cr0 & !(CR0_EM | CR0_TS) | CR0_MP;
        cr4 |= cr4_bits;
        asm!("mov cr0, {}", "mov cr4, {}", "fninit", in(reg) cr0, in(reg) cr4, options(nostack));
        if layout.has_xss {
            // No supervisor state, whatever firmware left: guests' XSAVES goes by it, also where it
            // is hidden from them.
            wrmsr(MSR_XSS, 0);
        }
    }
}

#[cfg(test)]
mod tests;
