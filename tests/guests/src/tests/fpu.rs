//! Extended state across preemption: all components that CPUID shows and that take any bits (x87, SSE,
//! AVX, AVX-512, PKRU) are loaded with a pattern of the seed's, and looked at again after a while in
//! which other domains ran. Compiled code here uses none of them.

use core::arch::asm;
use core::arch::x86_64::__cpuid_count;
use core::cell::UnsafeCell;

use super::Setting;
use crate::base::clock::{self, Deadline};
use crate::base::random::Random;
use crate::base::{cpu, hypercall};

/// x87, SSE, AVX, opmask, upper halves of ZMM, ZMM16 to 31, PKRU.
const COMPONENTS: u64 = 0b10_1110_0111;
const OSFXSR_OSXSAVE: u64 = 1 << 9 | 1 << 18;
const HEADER: usize = 512;
const SIZE: usize = 8192;

#[repr(C, align(64))]
struct Area(UnsafeCell<[u8; SIZE]>);

// SAFETY: one CPU uses it.
unsafe impl Sync for Area {}

static PATTERN: Area = Area(UnsafeCell::new([0; SIZE]));
static FOUND: Area = Area(UnsafeCell::new([0; SIZE]));
static COMPACT: Area = Area(UnsafeCell::new([0; SIZE]));
static INITIAL: Area = Area(UnsafeCell::new([0; SIZE]));

pub fn patterns(cx: &mut Setting) {
    assert!(__cpuid_count(1, 0).ecx & 1 << 26 != 0, "no XSAVE");
    cpu::set_cr4(cpu::cr4() | OSFXSR_OSXSAVE);
    let leaf = __cpuid_count(13, 0);
    let mask = (u64::from(leaf.edx) << 32 | u64::from(leaf.eax)) & COMPONENTS;
    cpu::xsetbv(0, mask);
    let xsaves = __cpuid_count(13, 1).eax & 1 << 3 != 0;
    println!("components={mask:#x} xsaves={xsaves}");
    let deadline = Deadline::after_seconds(cx.seconds);
    let (mut rounds, mut switches) = (0u64, 0u64);
    while !deadline.is_over() {
        make_pattern(&mut cx.random, mask);
        load(mask);
        if xsaves {
            there_and_back(mask);
        }
        switches += wait(&mut cx.random);
        save(mask);
        compare(mask);
        rounds += 1;
    }
    println!("PASS {} rounds={rounds} gaps={switches}", cx.name);
}

/// Runs or yields for a while; counts the gaps in which something else seems to have run.
fn wait(random: &mut Random) -> u64 {
    let until = clock::now() + random.below(10_000_000);
    let mut gaps = 0;
    let mut last = clock::now();
    while last < until {
        if random.one_in(1000) {
            hypercall::yield_now();
        }
        let now = clock::now();
        gaps += u64::from(now - last > 200_000);
        last = now;
    }
    gaps
}

fn make_pattern(random: &mut Random, mask: u64) {
    // SAFETY: nothing else refers to it.
    let area = unsafe { &mut *PATTERN.0.get() };
    area.fill(0);
    // Control words, with exceptions masked and any rounding; then the registers.
    area[..2].copy_from_slice(&(0x37f | (random.below(4) as u16) << 10).to_le_bytes());
    area[4] = 0xff;
    area[24..28].copy_from_slice(&(0x1f80 | (random.below(4) as u32) << 13).to_le_bytes());
    for register in 0..8 {
        let at = 32 + register * 16;
        area[at..at + 8].copy_from_slice(&(random.next() | 1 << 63).to_le_bytes());
        area[at + 8..at + 10].copy_from_slice(&(random.below(0x7ffe) as u16 + 1).to_le_bytes());
    }
    fill(random, &mut area[160..416]);
    for (at, size) in components(mask) {
        fill(random, &mut area[at..at + size]);
    }
    area[HEADER..HEADER + 8].copy_from_slice(&mask.to_le_bytes());
}

fn fill(random: &mut Random, bytes: &mut [u8]) {
    for byte in bytes {
        *byte = random.next() as u8;
    }
}

/// Where the components beyond SSE lie in an area.
fn components(mask: u64) -> impl Iterator<Item = (usize, usize)> {
    (2..10).filter(move |bit| mask & 1 << bit != 0).map(|bit| {
        let leaf = __cpuid_count(13, bit);
        // PKRU's component is 8 bytes, of which 4 count.
        let size = if bit == 9 { 4 } else { leaf.eax as usize };
        (leaf.ebx as usize, size)
    })
}

fn load(mask: u64) {
    // SAFETY: the area is well formed: its header names no more than XCR0 has.
    unsafe {
        asm!("xrstor64 [{}]", in(reg) PATTERN.0.get(), in("eax") mask as u32, in("edx") (mask >> 32) as u32);
    }
}

/// Out of the registers and in again by XSAVES and XRSTORS, with the initial state between.
fn there_and_back(mask: u64) {
    let (low, high) = (mask as u32, (mask >> 32) as u32);
    // SAFETY: the areas are as large as CPUID may say; the initial state has an empty header and a good MXCSR.
    unsafe {
        (&mut *INITIAL.0.get())[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
        asm!("xsaves64 [{}]", in(reg) COMPACT.0.get(), in("eax") low, in("edx") high);
        asm!("xrstor64 [{}]", in(reg) INITIAL.0.get(), in("eax") low, in("edx") high);
        asm!("xrstors64 [{}]", in(reg) COMPACT.0.get(), in("eax") low, in("edx") high);
    }
}

fn save(mask: u64) {
    // SAFETY: the area is as large as CPUID may say (a page twice), and nothing refers to it.
    unsafe {
        (*FOUND.0.get()).fill(0);
        asm!("xsave64 [{}]", in(reg) FOUND.0.get(), in("eax") mask as u32, in("edx") (mask >> 32) as u32);
    }
}

fn compare(mask: u64) {
    // SAFETY: nobody writes them now.
    let (pattern, found) = unsafe { (&*PATTERN.0.get(), &*FOUND.0.get()) };
    let check = |what: &str, from: usize, to: usize| {
        let differs = (from..to).find(|at| pattern[*at] != found[*at]);
        if let Some(at) = differs {
            panic!("{what} at {at}: {:#x} became {:#x}", pattern[at], found[at]);
        }
    };
    check("x87 control", 0, 2);
    check("mxcsr", 24, 28);
    for register in 0..8 {
        let at = 32 + register * 16;
        check("x87 register", at, at + 10);
    }
    check("xmm", 160, 416);
    for (at, size) in components(mask) {
        check("component", at, at + size);
    }
}
