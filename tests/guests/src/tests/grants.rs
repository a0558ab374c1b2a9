//! Grants: references that are not there, mapping one's own pages in circles, unmapping twice,
//! copies with wrong lengths, and entries that a second CPU changes while the hypervisor reads
//! them.

use core::sync::atomic::{AtomicBool, Ordering};

use guest_pv_abi as abi;

use super::Setting;
use crate::base::clock::Deadline;
use crate::base::random::Random;
use crate::base::{hypercall, smp};

/// Where the grant table is mapped, and the places to map grants at.
const TABLE: u64 = 0x0060_0000;
const TARGET: u64 = 0x0070_0000;
const TARGETS: u64 = 64;
/// Where the toolset puts it.
const CONSOLE: u64 = 0xfeff_f000;
/// No guest of this test has more.
const RAM_END: u64 = 0x0400_0000;
const FRAMES: u64 = 4;
const ENTRIES: u64 = FRAMES * 512;

static STOP: AtomicBool = AtomicBool::new(false);

#[derive(Default)]
struct Tally {
    mapped: u64,
    unmapped: u64,
    copied: u64,
    refused: u64,
}

pub fn abuse(cx: &mut Setting) {
    set_up_table();
    bad_commands(cx);
    let second = smp::start(1, flip).is_ok();
    let deadline = Deadline::after_seconds(cx.seconds);
    let mut random = Random::new(cx.random.next());
    let mut tally = Tally::default();
    while !deadline.is_over() {
        for _ in 0..32 {
            if !second {
                flip_once(&mut random);
            }
            match random.below(4) {
                0 => map(&mut random, &mut tally),
                1 => unmap(&mut random, &mut tally),
                2 => copy(&mut random, &mut tally),
                _ => touch(&mut random),
            }
        }
    }
    STOP.store(true, Ordering::SeqCst);
    smp::join();
    // What is still mapped stays so: the hypervisor has to cope with it when the domain ends.
    let Tally {
        mapped,
        unmapped,
        copied,
        refused,
    } = tally;
    println!(
        "PASS {} second={second} mapped={mapped} unmapped={unmapped} copied={copied} refused={refused}",
        cx.name
    );
}

fn set_up_table() {
    for frame in (0..FRAMES).rev() {
        let mut add = abi::AddToPhysmap {
            domid: abi::DOMID_SELF,
            size: 0,
            space: abi::XENMAPSPACE_GRANT_TABLE,
            idx: frame,
            gpfn: (TABLE >> 12) + frame,
        };
        let result = hypercall::memory(abi::XENMEM_ADD_TO_PHYSMAP, &mut add);
        assert!(result == 0, "no grant table: {result}");
    }
}

/// Commands that do not exist, counts that cannot be, structures that are not there.
fn bad_commands(cx: &mut Setting) {
    let number = abi::HYPERVISOR_GRANT_TABLE_OP.into();
    for _ in 0..5000 {
        let command = cx.random.below(16);
        // Version 2 would take the entries' meaning away; transfers give pages away.
        if command == u64::from(abi::GNTTABOP_SET_VERSION) {
            continue;
        }
        let at = match cx.random.address() {
            // From the first page on a long list would run into the kernel.
            at if at < 0x0200_0000 => 0x0030_0000 + at % 0x1000,
            // Nor into the console's page: results there would break its ring, and nobody would
            // read our last word.
            at if (CONSOLE - 0x2000..CONSOLE + 0x1000).contains(&at) => {
                CONSOLE - 0x7000 + at % 0x1000
            }
            at => at,
        };
        let (at, count) = match cx.random.below(64) {
            // Not in the midst of RAM: a list of all that follows is worked through to its end.
            0 => (RAM_END - at % 0x2000, cx.random.nasty()),
            _ => (at, cx.random.below(64)),
        };
        hypercall::raw(number, [command, at, count, 0, 0]);
    }
}

fn map(random: &mut Random, tally: &mut Tally) {
    let mut list: [abi::GnttabMapGrantRef; 4] = core::array::from_fn(|_| abi::GnttabMapGrantRef {
        host_addr: target(random),
        flags: random.pick(&[2, 2, 2, 6, 3, 0, 10, 18, u32::MAX]),
        grant_ref: reference(random),
        dom: domain(random),
        status: 0,
        handle: 0,
        dev_bus_addr: 0,
    });
    hypercall::grant(abi::GNTTABOP_MAP_GRANT_REF, &mut list);
    for one in &list {
        if one.status == abi::GNTST_OKAY {
            tally.mapped += 1;
        } else {
            tally.refused += 1;
        }
    }
}

fn unmap(random: &mut Random, tally: &mut Tally) {
    let mut list: [abi::GnttabUnmapGrantRef; 4] =
        core::array::from_fn(|_| abi::GnttabUnmapGrantRef {
            host_addr: target(random),
            dev_bus_addr: if random.one_in(4) { random.next() } else { 0 },
            handle: if random.one_in(8) {
                random.nasty() as u32
            } else {
                random.below(256) as u32
            },
            status: 0,
            _pad: 0,
        });
    hypercall::grant(abi::GNTTABOP_UNMAP_GRANT_REF, &mut list);
    tally.unmapped += list
        .iter()
        .filter(|one| one.status == abi::GNTST_OKAY)
        .count() as u64;
}

fn copy(random: &mut Random, tally: &mut Tally) {
    let mut side = |by_reference: bool| abi::GnttabCopyPtr {
        u: match by_reference {
            true => reference(random).into(),
            false => (TARGET >> 12) + random.below(TARGETS),
        },
        domid: domain(random),
        offset: if random.one_in(2) {
            random.below(0x1000) as u16
        } else {
            random.nasty() as u16
        },
        _pad: 0,
    };
    let (source, dest) = (side(true), side(true));
    let flags = random.pick(&[0, 1, 2, 3, 3, 3, 0xffff]);
    let len = if random.one_in(2) {
        random.below(0x800) as u16
    } else {
        random.nasty() as u16
    };
    let mut list = [abi::GnttabCopy {
        source,
        dest,
        len,
        flags,
        status: 0,
        _pad: 0,
    }];
    // A frame number in place of a reference must not be one of the kernel.
    if flags & 1 == 0 {
        list[0].source.u = (TARGET >> 12) + random.below(TARGETS);
    }
    if flags & 2 == 0 {
        list[0].dest.u = (TARGET >> 12) + random.below(TARGETS);
    }
    hypercall::grant(abi::GNTTABOP_COPY, &mut list);
    tally.copied += u64::from(list[0].status == abi::GNTST_OKAY);
}

/// Reads what is mapped, or no longer mapped, at a target.
fn touch(random: &mut Random) {
    let at = TARGET + random.below(TARGETS * 512) * 8;
    let _ = crate::base::trap::guard(|| {
        // SAFETY: no Rust object is there; a fault is caught.
        core::hint::black_box(unsafe { (at as *const u64).read_volatile() });
    });
}

fn flip(_: usize) {
    let mut random = Random::new(0xf11b);
    while !STOP.load(Ordering::SeqCst) {
        for _ in 0..256 {
            flip_once(&mut random);
        }
    }
}

/// An entry for one of this domain's pages (a grant's own target among them), or nonsense.
fn flip_once(random: &mut Random) {
    // The first entries are the console's and the store's.
    let at = TABLE + (8 + random.below(56)) * 8;
    let flags = random.pick(&[1, 1, 1, 5, 0, 2, 3, 9, 25, 0xffff]);
    let frame = match random.below(8) {
        // Anything but the kernel's own frames, into which copies would go.
        0 => match random.nasty() as u32 {
            frame if (0x100..0x400).contains(&frame) => 0,
            frame => frame,
        },
        1 => (TABLE >> 12) as u32,
        2 => 0xfee00,
        _ => (TARGET >> 12) as u32 + random.below(TARGETS) as u32,
    };
    let entry = u64::from(frame) << 32 | u64::from(domain(random)) << 16 | flags;
    // SAFETY: the table is mapped there, and belongs to no Rust object.
    unsafe { (at as *mut u64).write_volatile(entry) };
}

fn reference(random: &mut Random) -> u32 {
    match random.below(16) {
        0 => random.nasty() as u32,
        1 => random.below(ENTRIES) as u32,
        _ => random.below(64) as u32,
    }
}

fn domain(random: &mut Random) -> u16 {
    // The own number is not known: it is small.
    random.pick(&[
        abi::DOMID_SELF,
        abi::DOMID_SELF,
        0,
        1,
        2,
        3,
        0x7ff1,
        0x7ff2,
        0xffff,
    ])
}

fn target(random: &mut Random) -> u64 {
    match random.below(16) {
        0 => 0xfee0_0000,
        1 => random.next() & !0xfff,
        2 => TARGET + random.below(TARGETS) * 4096 + 8,
        _ => TARGET + random.below(TARGETS) * 4096,
    }
}
