//! Patterns in extended state: every component that takes any bits (x87, SSE, AVX, AVX-512, PKRU)
//! is loaded with random bytes, and compared after a while in which something else ran on the CPU
//! (SDM volume 1, 13).
//!
//! The test guest uses it, whose compiled code has no vector registers; and a program in dom0
//! (`main.rs`), whose code has, so that it loads, waits and saves in one piece (`State::hold`).
#![no_std]
#![allow(unsafe_code, reason = "XSAVE and its kin")]

use core::arch::asm;
use core::arch::x86_64::__cpuid_count;
use core::fmt;

/// x87, SSE, AVX, opmask, upper halves of ZMM, ZMM16 to 31, PKRU.
pub const COMPONENTS: u64 = 0b10_1110_0111;
pub const PKRU: u64 = 1 << 9;
const HEADER: usize = 512;
/// More than all of the components take.
const SIZE: usize = 8192;
const MXCSR: usize = 24;
const MXCSR_RESET: u32 = 0x1f80;
const FCW_RESET: u16 = 0x37f;

#[repr(C, align(64))]
struct Area([u8; SIZE]);

/// The state to load, the state that was found, and room for the way by XSAVES.
pub struct State {
    mask: u64,
    pattern: Area,
    found: Area,
    compact: Area,
    initial: Area,
}

/// A byte that is not what it was.
pub struct Changed {
    what: &'static str,
    at: usize,
    from: u8,
    to: u8,
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, at, from, to } = self;
        write!(f, "{what} at {at}: {from:#x} became {to:#x}")
    }
}

impl State {
    pub const fn new() -> Self {
        Self {
            mask: 0,
            pattern: Area([0; SIZE]),
            found: Area([0; SIZE]),
            compact: Area([0; SIZE]),
            initial: Area([0; SIZE]),
        }
    }

    /// A new pattern for these components.
    pub fn fill(&mut self, mask: u64, mut random: impl FnMut() -> u64) {
        self.mask = mask;
        let area = &mut self.pattern.0;
        area.fill(0);
        // Control words, with exceptions masked and any rounding; then the registers.
        let control = FCW_RESET | ((random() & 3) as u16) << 10;
        area[..2].copy_from_slice(&control.to_le_bytes());
        area[4] = 0xff;
        let control = MXCSR_RESET | ((random() & 3) as u32) << 13;
        area[MXCSR..MXCSR + 4].copy_from_slice(&control.to_le_bytes());
        for register in 0..8 {
            let at = 32 + register * 16;
            area[at..at + 8].copy_from_slice(&(random() | 1 << 63).to_le_bytes());
            let exponent = (random() % 0x7ffe) as u16 + 1;
            area[at + 8..at + 10].copy_from_slice(&exponent.to_le_bytes());
        }
        let rest = components(mask).chain([("xmm", 160, 256)]);
        for (_, at, size) in rest {
            area[at..at + size].fill_with(|| random() as u8);
        }
        area[HEADER..HEADER + 8].copy_from_slice(&mask.to_le_bytes());
        self.initial.0[..2].copy_from_slice(&FCW_RESET.to_le_bytes());
        self.initial.0[MXCSR..MXCSR + 4].copy_from_slice(&MXCSR_RESET.to_le_bytes());
    }

    /// Into the registers.
    ///
    /// # Safety
    /// CR4.OSXSAVE is on, XCR0 has the components, and the compiled code uses none of them.
    pub unsafe fn load(&self) {
        // SAFETY: as the caller vouches; the header names no more than XCR0 has.
        unsafe { xrstor(&self.pattern, self.mask) };
    }

    /// Out of the registers and in again by XSAVES and XRSTORS, with the initial state between.
    ///
    /// # Safety
    /// As for `load`; the CPU has XSAVES, and this is CPL 0.
    pub unsafe fn there_and_back(&mut self) {
        let (low, high) = halves(self.mask);
        // SAFETY: as the caller vouches; the areas are as large as CPUID may say, and the initial
        // state has an empty header and a good MXCSR.
        unsafe {
            asm!("xsaves64 [{}]", in(reg) &raw mut self.compact, in("eax") low, in("edx") high);
            xrstor(&self.initial, self.mask);
            asm!("xrstors64 [{}]", in(reg) &raw const self.compact, in("eax") low, in("edx") high);
        }
    }

    /// Out of the registers.
    ///
    /// # Safety
    /// As for `load`.
    pub unsafe fn save(&mut self) {
        self.found.0.fill(0);
        let (low, high) = halves(self.mask);
        // SAFETY: as the caller vouches; the area is as large as CPUID may say.
        unsafe {
            asm!("xsave64 [{}]", in(reg) &raw mut self.found, in("eax") low, in("edx") high);
        }
    }

    /// Loads, counts down, and saves, for code that uses these registers itself.
    ///
    /// # Safety
    /// The system lets this code use the components, of which PKRU is none.
    pub unsafe fn hold(&mut self, count: u64) {
        self.found.0.fill(0);
        let (low, high) = halves(self.mask);
        // SAFETY: the registers are told to be overwritten; the control words are those of the ABI
        // again at the end.
        unsafe {
            asm!(
                "xrstor64 [{pattern}]",
                "2: dec rcx",
                "jnz 2b",
                "xsave64 [{found}]",
                "xrstor64 [{initial}]",
                pattern = in(reg) &raw const self.pattern,
                found = in(reg) &raw mut self.found,
                initial = in(reg) &raw const self.initial,
                inout("rcx") count.max(1) => _,
                inout("eax") low => _,
                inout("edx") high => _,
                clobber_abi("sysv64"),
            );
        }
    }

    /// Are the components of `mask` beyond SSE in their initial state?
    ///
    /// # Safety
    /// As for `load`, with `mask`.
    pub unsafe fn is_initial_beyond_sse(&mut self, mask: u64) -> Result<(), Changed> {
        self.mask = mask;
        // SAFETY: as the caller vouches.
        unsafe { self.save() };
        for (what, from, size) in components(mask) {
            for at in from..from + size {
                if self.found.0[at] != 0 {
                    let (from, to) = (0, self.found.0[at]);
                    return Err(Changed { what, at, from, to });
                }
            }
        }
        Ok(())
    }

    /// Compares the saved state with the loaded one.
    pub fn compare(&self) -> Result<(), Changed> {
        let x87 = (0..8).map(|register| ("x87 register", 32 + register * 16, 10));
        let legacy = [
            ("x87 control", 0, 2),
            ("mxcsr", MXCSR, 4),
            ("xmm", 160, 256),
        ];
        let all = legacy.into_iter().chain(x87).chain(components(self.mask));
        for (what, from, size) in all {
            for at in from..from + size {
                let (from, to) = (self.pattern.0[at], self.found.0[at]);
                if from != to {
                    return Err(Changed { what, at, from, to });
                }
            }
        }
        Ok(())
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

/// The components that CPUID shows here, of those that we know.
pub fn shown() -> u64 {
    let leaf = __cpuid_count(13, 0);
    (u64::from(leaf.edx) << 32 | u64::from(leaf.eax)) & COMPONENTS
}

/// Those that a program may use: what XCR0 has, without PKRU, which guards the program's own
/// memory.
pub fn usable() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: programs may read XCR0 where CPUID shows OSXSAVE; nothing is written.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high) };
    (u64::from(high) << 32 | u64::from(low)) & COMPONENTS & !PKRU
}

/// Where the components beyond SSE lie in an area, and how large they are.
fn components(mask: u64) -> impl Iterator<Item = (&'static str, usize, usize)> {
    const NAMES: [&str; 10] = [
        "x87", "sse", "avx", "bndregs", "bndcsr", "opmask", "zmm0-15", "zmm16-31", "pt", "pkru",
    ];
    (2..10).filter(move |bit| mask & 1 << bit != 0).map(|bit| {
        let leaf = __cpuid_count(13, bit);
        // PKRU's component is 8 bytes, of which 4 count.
        let size = if bit == 9 { 4 } else { leaf.eax as usize };
        (NAMES[bit as usize], leaf.ebx as usize, size)
    })
}

fn halves(mask: u64) -> (u32, u32) {
    (mask as u32, (mask >> 32) as u32)
}

/// # Safety
/// As for `State::load`; the area is well formed.
unsafe fn xrstor(area: &Area, mask: u64) {
    let (low, high) = halves(mask);
    // SAFETY: as the caller vouches.
    unsafe {
        asm!("xrstor64 [{}]", in(reg) area, in("eax") low, in("edx") high);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_comes_back_and_a_change_is_told() {
        if __cpuid_count(1, 0).ecx & 1 << 27 == 0 {
            return;
        }
        let mut state = State::new();
        let mut next = 1u64;
        let mut random = || {
            next = next.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            next >> 20
        };
        for _ in 0..20 {
            state.fill(usable(), &mut random);
            // SAFETY: without PKRU, and of what the system has on.
            unsafe { state.hold(1000) };
            assert!(state.compare().is_ok());
        }
        state.found.0[200] ^= 1;
        assert!(state.compare().is_err());
    }
}
