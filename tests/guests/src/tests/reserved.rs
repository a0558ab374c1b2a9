//! Bits of page-table entries that must be zero: each of them alone, at each level, for pages of
//! each size, with and without no-execute. An access faults with the error code that says so, and
//! the hypervisor's walks for a handle refuse it. The last line has a sum of all outcomes: a guest
//! under nested paging, where the processor walks, and one on a shadow print the same.

use core::arch::x86_64::__cpuid_count;

use guest_pv_abi as abi;

use super::Setting;
use crate::base::cpu;
use crate::base::hypercall;
use crate::base::trap::guard;

/// RAM that belongs to no Rust object: the tables, from the top one down, and the page.
const TABLES: [u64; 4] = [0x0080_0000, 0x0080_1000, 0x0080_2000, 0x0080_3000];
/// Aligned as the page's size wants it. The first GiB is all that there is.
const PAGES: [(u32, u64); 3] = [(12, 0x0080_4000), (21, 0x00a0_0000), (30, 0)];
const SLOT: u64 = 100;
/// In each of the three pages, and in no memory of the kernel's.
const OFFSET: [u64; 3] = [0x10, 0x10, 0x00a0_0010];
const LARGE: u64 = 1 << 7;
const PAGE_FAULT: u64 = 14;
/// Of the error code: QEMU's TCG leaves it out where a reserved bit is set, processors do not.
const PRESENT: u64 = 1;
const EFER: u32 = 0xc000_0080;
const NXE: u64 = 1 << 11;
const EFAULT: i64 = -14;

struct Processor {
    bits: u32,
    pages_1g: bool,
}

pub fn all(cx: &mut Setting) {
    let processor = Processor {
        bits: __cpuid_count(0x8000_0008, 0).eax & 0xff,
        pages_1g: __cpuid_count(0x8000_0001, 0).edx & 1 << 26 != 0,
    };
    let good = cpu::cr3();
    let efer = cpu::rdmsr(EFER);
    let (mut sum, mut faults, mut accesses) = (0xcbf2_9ce4_8422_2325u64, 0u64, 0u64);
    for no_execute in [true, false] {
        cpu::wrmsr(EFER, if no_execute { efer | NXE } else { efer & !NXE });
        for (size, (shift, page)) in PAGES.into_iter().enumerate() {
            if shift == 30 && !processor.pages_1g {
                continue;
            }
            let at = SLOT << 39 | OFFSET[size];
            let depth = 4 - size;
            for (level, bit) in (0..depth).flat_map(|level| (1..64).map(move |bit| (level, bit))) {
                let leaf = level + 1 == depth;
                if !is_asked(&processor, level, leaf, bit, shift) {
                    continue;
                }
                build(good, depth, page, level, bit);
                let reserved = is_reserved(&processor, level, leaf, bit, shift, no_execute);
                for write in [false, true] {
                    // SAFETY: the first entry maps this kernel as before.
                    unsafe { cpu::set_cr3(TABLES[0]) };
                    let outcome = guard(|| access(at, write));
                    let walked = walk(at);
                    // SAFETY: these are the kernel's own.
                    unsafe { cpu::set_cr3(good) };
                    let found = outcome
                        .map_or_else(|trap| trap.vector << 32 | trap.error & !PRESENT, |()| 0);
                    let code = 0b1000 | u64::from(write) << 1;
                    // Bit 1 takes the right to write away only where CR0.WP is on, which it is not.
                    let expected = if reserved { PAGE_FAULT << 32 | code } else { 0 };
                    assert!(
                        found == expected,
                        "{size} level {level} bit {bit} nx {no_execute} write {write}: {found:#x}, not {expected:#x}"
                    );
                    assert!(
                        (walked == EFAULT) == reserved,
                        "{size} level {level} bit {bit} nx {no_execute}: a handle there gives {walked}"
                    );
                    sum = (sum ^ found ^ bit << 8 ^ level as u64).wrapping_mul(0x100_0000_01b3);
                    faults += u64::from(reserved);
                    accesses += 1;
                }
            }
        }
    }
    println!(
        "PASS {} accesses={accesses} faults={faults} sum={sum:016x}",
        cx.name
    );
}

/// Bits that move the address, or make a table a page, say nothing here.
fn is_asked(processor: &Processor, level: usize, leaf: bool, bit: u64, shift: u32) -> bool {
    let bit = bit as u32;
    let first = if leaf { shift } else { 12 };
    let moves = (first..processor.bits).contains(&bit) || (leaf && bit == 12);
    let makes_page = bit == 7 && !leaf && level > 0;
    let is_page = bit == 7 && leaf && shift > 12;
    !(moves || makes_page || is_page)
}

fn is_reserved(
    processor: &Processor,
    level: usize,
    leaf: bool,
    bit: u64,
    shift: u32,
    no_execute: bool,
) -> bool {
    match bit as u32 {
        7 => level == 0,
        bit @ 13.. if leaf && bit < shift => true,
        bit @ 12..=51 => bit >= processor.bits,
        63 => !no_execute,
        _ => false,
    }
}

/// The way to the page, with one bit of one level the other way round.
fn build(good: u64, depth: usize, page: u64, level: usize, bit: u64) {
    let write = |at: u64, value: u64| {
        // SAFETY: RAM that belongs to no Rust object.
        unsafe { (at as *mut u64).write_volatile(value) };
    };
    // SAFETY: the kernel's top table is mapped.
    write(TABLES[0], unsafe { (good as *const u64).read_volatile() });
    for n in 0..depth {
        let leaf = n + 1 == depth;
        let large = if leaf && depth < 4 { LARGE } else { 0 };
        let to = if leaf { page } else { TABLES[n + 1] };
        let flip = if n == level { 1 << bit } else { 0 };
        let index = match n {
            0 => SLOT,
            // The page of 4 KiB and those of 2 MiB begin at index 0; nothing else is used.
            _ => 0,
        };
        write(TABLES[n] + index * 8, (to | large | 0x63) ^ flip);
    }
}

fn access(at: u64, write: bool) {
    let at = at as *mut u8;
    // SAFETY: what it reaches is no memory of the kernel's; a fault is caught.
    unsafe {
        if write {
            at.write_volatile(0);
        } else {
            core::hint::black_box(at.read_volatile());
        }
    }
}

/// The hypervisor reads a structure there, and writes its answer there.
fn walk(at: u64) -> i64 {
    let number = abi::HYPERVISOR_XEN_VERSION.into();
    hypercall::raw(number, [abi::XENVER_GET_FEATURES.into(), at, 0, 0, 0])
}
