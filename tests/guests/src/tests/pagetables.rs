//! Page tables of nonsense: tables in devices, in holes, in themselves, in the hypervisor's frames,
//! with reserved bits; used by this CPU's accesses and by the hypervisor's walks for handles.

use guest_pv_abi as abi;

use super::Setting;
use crate::base::clock::Deadline;
use crate::base::cpu;
use crate::base::hypercall;
use crate::base::random::Random;
use crate::base::trap::guard;

/// Tables under test: the top one and others that entries may point to.
const TOP: u64 = 0x0080_0000;
const TABLES: u64 = 16;

pub fn nonsense(cx: &mut Setting) {
    let good = cpu::cr3();
    let deadline = Deadline::after_seconds(cx.seconds);
    let (mut rounds, mut faults, mut walked) = (0u64, 0u64, 0u64);
    while !deadline.is_over() {
        fill(&mut cx.random, good);
        let random = &mut cx.random;
        // SAFETY: the first entry still maps this kernel.
        unsafe { cpu::set_cr3(TOP) };
        for _ in 0..64 {
            let at = address(random);
            faults += u64::from(guard(|| access(at)).is_err());
            walked += u64::from(walk(at) >= 0);
        }
        // SAFETY: these are the kernel's own.
        unsafe { cpu::set_cr3(good) };
        rounds += 1;
    }
    println!(
        "PASS {} rounds={rounds} faults={faults} walked={walked}",
        cx.name
    );
}

/// The first 512 GiB as the kernel has them; all else is up to the seed.
fn fill(random: &mut Random, good: u64) {
    for index in 0..TABLES * 512 {
        let entry = entry(random);
        // SAFETY: RAM that belongs to no Rust object.
        unsafe { ((TOP + index * 8) as *mut u64).write_volatile(entry) };
    }
    // SAFETY: as above; the kernel's top table is mapped.
    unsafe { (TOP as *mut u64).write_volatile((good as *const u64).read_volatile()) };
}

fn entry(random: &mut Random) -> u64 {
    let flags = match random.below(4) {
        0 => random.next() & 0xfff,
        1 => 0x83,
        _ => 0x27,
    };
    let frame = match random.below(8) {
        0 => 0xfee0_0000,
        1 => random.next() & 0x000f_ffff_ffff_f000,
        2 => 0xfec0_0000,
        3 => 0xfeff_8000 + random.below(8) * 4096,
        // Pages of the machine's that are not this guest's, if anything let them through.
        4 => random.below(0x8_0000) << 12,
        _ => TOP + random.below(TABLES) * 4096,
    };
    let high = if random.one_in(16) {
        random.next() & 0xfff0_0000_0000_0000
    } else {
        0
    };
    // RAM of the kernel is left alone: a write through such an entry would be a fault of the test.
    if (0x0010_0000..0x0040_0000).contains(&frame) {
        flags
    } else {
        frame | flags | high
    }
}

/// Not in the kernel's part.
fn address(random: &mut Random) -> u64 {
    let slot = 1 + random.below(511);
    let low = random.next() & 0x7f_ffff_ffff;
    let at = slot << 39 | low;
    if slot >= 256 {
        at | 0xffff_0000_0000_0000
    } else {
        at
    }
}

fn access(at: u64) {
    // SAFETY: what it reaches is not the kernel; a fault is caught.
    unsafe {
        core::hint::black_box((at as *const u8).read_volatile());
    }
}

/// The hypervisor reads a structure there, and writes its answer there.
fn walk(at: u64) -> i64 {
    let number = abi::HYPERVISOR_XEN_VERSION.into();
    hypercall::raw(number, [abi::XENVER_GET_FEATURES.into(), at, 0, 0, 0])
}
