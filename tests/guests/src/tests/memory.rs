//! Memory operations: giving pages back and asking for more, all orders and counts, every map
//! space, frames that are not there.

use guest_pv_abi as abi;

use super::Setting;
use crate::base::clock::{self, Deadline};
use crate::base::hypercall;
use crate::base::random::Random;
use crate::base::trap::guard;

/// Lists of frames, in RAM that is not given away.
const LIST: u64 = 0x0030_0000;
/// Where answers go: numbers there must never be read as frames to give away.
const ANSWERS: u64 = 0x0040_0000;
/// Frames that are RAM: 16 MiB to 32 MiB.
const FIRST: u64 = 0x1000;
const COUNT: u64 = 0x1000;
/// No guest of these tests has more.
const RAM_END: u64 = 0x0400_0000;

pub fn abuse(cx: &mut Setting) {
    // What the builder left there must not be taken for frames to give away.
    for at in (RAM_END - 64..RAM_END).step_by(8) {
        // SAFETY: RAM that belongs to no Rust object, or none at all.
        let _ = guard(|| unsafe { (at as *mut u64).write_volatile(0) });
    }
    let deadline = Deadline::after_seconds(cx.seconds);
    let (mut calls, mut succeeded) = (0u64, 0u64);
    let mut slowest = (0, 0);
    while !deadline.is_over() {
        for _ in 0..32 {
            calls += 1;
            let kind = cx.random.below(6);
            let began = clock::now();
            let result = match kind {
                0 | 1 => reserve(&mut cx.random, abi::XENMEM_DECREASE_RESERVATION),
                2 | 3 => reserve(&mut cx.random, abi::XENMEM_POPULATE_PHYSMAP),
                4 => place(&mut cx.random),
                _ => other(&mut cx.random),
            };
            succeeded += u64::from(result > 0);
            slowest = slowest.max((clock::now() - began, kind));
        }
        touch(&mut cx.random);
    }
    println!(
        "PASS {} calls={calls} succeeded={succeeded} slowest={slowest:?}",
        cx.name
    );
}

fn reserve(random: &mut Random, command: u32) -> i64 {
    let (extents, list) = match random.below(16) {
        // A list in RAM would be worked through to RAM's end, one by one: that takes its time.
        0 => (random.nasty(), bad_list(random)),
        1 => (random.below(64), bad_list(random)),
        2 => (random.below(0x1000), LIST),
        _ => (random.below(64), LIST),
    };
    let order = match random.below(8) {
        // What is not written below is zeros: frame 0 can be given up, but not the many behind it.
        _ if extents > 64 || list != LIST => 0,
        0 => random.nasty() as u32,
        1 => random.below(10) as u32,
        _ => 0,
    };
    for index in 0..64 {
        let frame = if random.one_in(32) {
            bad_frame(random)
        } else {
            FIRST + random.below(COUNT)
        };
        let frame = if order < 10 && order > 0 {
            frame & !((1 << order) - 1)
        } else {
            frame
        };
        // SAFETY: RAM that belongs to no Rust object.
        unsafe { ((LIST + index * 8) as *mut u64).write_volatile(frame) };
    }
    let mut reservation = abi::MemoryReservation {
        extent_start: list,
        nr_extents: extents,
        extent_order: order,
        mem_flags: if random.one_in(8) {
            random.nasty() as u32
        } else {
            0
        },
        domid: random.pick(&[abi::DOMID_SELF, abi::DOMID_SELF, abi::DOMID_SELF, 0, 1]),
        _pad: [0; 3],
    };
    hypercall::memory(command, &mut reservation)
}

fn place(random: &mut Random) -> i64 {
    let space = random.below(7) as u32;
    let moves_ram = [abi::XENMAPSPACE_GMFN, abi::XENMAPSPACE_GMFN_RANGE].contains(&space);
    let mut add = abi::AddToPhysmap {
        domid: random.pick(&[abi::DOMID_SELF, abi::DOMID_SELF, 0]),
        size: random.below(4) as u16,
        space,
        idx: match random.below(4) {
            // Anything but this test's own pages.
            0 if moves_ram => bad_frame(random),
            _ if moves_ram => FIRST + random.below(COUNT),
            0 | 1 => random.below(64),
            _ => random.nasty(),
        },
        gpfn: if random.one_in(16) {
            bad_frame(random)
        } else {
            FIRST + random.below(COUNT)
        },
    };
    let result = hypercall::memory(abi::XENMEM_ADD_TO_PHYSMAP, &mut add);
    if result == 0 && add.space == abi::XENMAPSPACE_SHARED_INFO {
        // There is one such page only: it is gone from where the clock is looked at.
        clock::map_again();
    }
    result
}

fn other(random: &mut Random) -> i64 {
    if random.one_in(2) {
        let gpfn = FIRST + random.below(COUNT);
        let mut remove = abi::RemoveFromPhysmap {
            domid: abi::DOMID_SELF,
            _pad: [0; 3],
            gpfn,
        };
        return hypercall::memory(abi::XENMEM_REMOVE_FROM_PHYSMAP, &mut remove);
    }
    // Any other command, on a structure of small numbers.
    let command = random.below(40) as u32;
    let moves_pages = [
        abi::XENMEM_DECREASE_RESERVATION,
        abi::XENMEM_POPULATE_PHYSMAP,
        abi::XENMEM_ADD_TO_PHYSMAP,
        abi::XENMEM_REMOVE_FROM_PHYSMAP,
        abi::XENMEM_EXCHANGE,
        abi::XENMEM_ADD_TO_PHYSMAP_BATCH,
    ];
    if moves_pages.contains(&command) {
        return 0;
    }
    let mut words: [u64; 12] = core::array::from_fn(|_| match random.below(3) {
        0 => u64::from(abi::DOMID_SELF),
        1 => ANSWERS,
        _ => random.nasty(),
    });
    for word in &mut words {
        // Answers must not be asked for into the kernel.
        if (0x1000..ANSWERS).contains(word) {
            *word = 0;
        }
    }
    hypercall::memory(command, &mut words)
}

/// Pages that are gone, or came back, or are not RAM at all.
fn touch(random: &mut Random) {
    for _ in 0..16 {
        let at = ((FIRST + random.below(COUNT)) << 12) + random.below(512) * 8;
        let _ = guard(|| {
            // SAFETY: no Rust object is there; a fault is caught.
            unsafe { (at as *mut u64).write_volatile(at) };
        });
    }
}

/// Not the page of the console: without it this test could not say how it went.
fn bad_frame(random: &mut Random) -> u64 {
    random.pick(&[
        0xfee00,
        0xfec00,
        1 << 20,
        1 << 28,
        1 << 40,
        u64::MAX,
        0x000f_ffff,
    ])
}

fn bad_list(random: &mut Random) -> u64 {
    match random.address() {
        at if (0x1000..RAM_END).contains(&at) => RAM_END - at % 64,
        at => at,
    }
}
