//! Machines of all shapes, from the firmware's map to dom0's share, the other CPUs' stacks and the
//! devices.

use alloc::boxed::Box;
use alloc::vec::Vec;

use oxen_types::{Maddr, Vaddr};

use super::*;
use crate::FrameUse;
use crate::host::{HostSpace, Rights, Section};
use crate::memmap::{FirmwareKind, FirmwareRange, MemoryMap};
use crate::phys::Phys;
use crate::start::{Span, Start};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const PAGE: u64 = 4096;
const FOUR_GIB: u64 = 1 << 20;
const CPUS: usize = 4;
const ECAM: u64 = 0xb000_0000;
const ECAM_LEN: u64 = 256 * MIB;

/// RAM as the firmware of QEMU's q35 describes it: below 2 or 2.75 GiB, and the rest from 4 GiB on.
fn q35(mib: u64) -> Vec<(u64, u64)> {
    let low = if mib > 2816 { 2048 } else { mib };
    let mut ram = [(0, 0x9_fc00), (MIB, low * MIB - MIB - 0x2_0000)].to_vec();
    if mib > low {
        ram.push((4 * GIB, (mib - low) * MIB));
    }
    ram
}

fn image() -> [Section; 1] {
    [Section {
        vaddr: Vaddr::new(oxen_types::layout::IMAGE + 0x8020_0000),
        maddr: Maddr::new(0x20_0000),
        len: 0x20_0000,
        rights: Rights::ReadWrite,
    }]
}

struct Machine {
    frames: &'static FrameTable,
    space: HostSpace,
    modules: Vec<Span>,
    dom0: u64,
    map: Vec<MapRange>,
}

/// Starts a machine as the kernel does, up to dom0's memory map.
fn machine(ram: &[(u64, u64)], wish: u64, gib_pages: bool) -> Machine {
    let firmware = ram.iter().map(|&(start, len)| FirmwareRange {
        start,
        len,
        kind: FirmwareKind::Ram,
    });
    let map = MemoryMap::new(firmware);
    let phys = Phys::sparse(map.end().raw());
    // The loader's places: a kernel of 8 MiB at 4 MiB, an initramfs of 24 MiB behind it.
    let modules = [(4 * MIB, 8 * MIB - 100), (12 * MIB, 24 * MIB - 5)];
    let modules = modules.map(|(at, len)| Span {
        at: Maddr::new(at),
        len,
    });
    let mark = |at: u64| Maddr::new(at).frame();
    phys.write(mark(modules[0].at.raw()), 0, b"kernel");
    phys.write(
        mark(modules[1].at.raw() + modules[1].len - 4),
        4091 - 4,
        b"tail",
    );
    let mut start = Start::new(
        (phys, phys),
        map,
        &image(),
        &[BAD],
        &modules,
        gib_pages,
        |_| (),
    )
    .unwrap();
    let room = start.carve(60 * MIB).unwrap();
    let frames: &'static FrameTable = Box::leak(Box::new(start.frames(phys).unwrap()));
    let total = frames.stats().total_frames;
    let spans = ram
        .iter()
        .map(|&(start, len)| (start.div_ceil(PAGE), (start + len) / PAGE));
    let kept = kept_frames(total, CPUS);
    let dom0 = reserve(frames, spans, wish * MIB / PAGE, kept);
    if let Some((at, count)) = start.low {
        frames.free_own(at, count);
    }
    let entries = ram.iter().map(|&(start, len)| MapRange {
        start,
        len,
        kind: 1,
    });
    let map = build_map(frames, entries, MOST_ENTRIES);
    let given: u64 = map
        .iter()
        .filter(|r| r.kind == 1)
        .map(|r| r.len / PAGE)
        .sum();
    assert_eq!(given, dom0, "the map has all of dom0's frames");
    let mut head = [0; 6];
    phys.read(start.modules[0].at.frame(), 0, &mut head);
    assert_eq!(&head, b"kernel");
    let mut tail = [0; 4];
    phys.read(
        start.modules[1]
            .at
            .checked_add(modules[1].len - 4)
            .unwrap()
            .frame(),
        4087,
        &mut tail,
    );
    assert_eq!(&tail, b"tail");
    assert!(room.at.raw() >= modules[1].at.raw() + modules[1].len);
    let modules = start.modules.clone();
    Machine {
        frames,
        space: HostSpace::new(start.into_builder(), frames),
        modules,
        dom0,
        map,
    }
}

/// RAM that no one may use: a processor's erratum. The loader put the initramfs over it.
const BAD: Span = Span {
    at: Maddr::new(14 * MIB),
    len: 4 * MIB,
};

/// Brings up CPUs, maps the configuration space and gives vcpus on shadows their low frames.
fn comes_up(machine: &Machine, context: &str) {
    for cpu in 1..CPUS {
        for pages in [8, 3, 3, 3] {
            let stack = machine.space.alloc_stack(pages);
            assert!(stack.is_ok(), "{context}: no stack for CPU{cpu}");
        }
    }
    let ecam = machine.space.map_device(Maddr::new(ECAM), ECAM_LEN);
    assert!(ecam.is_ok(), "{context}: no PCI configuration space");
    let low = crate::AllocOptions {
        below_4g: true,
        ..Default::default()
    };
    for _ in 0..128 {
        let frame = machine.frames.alloc_own(0, DomainId(1), low);
        assert!(
            frame.is_some_and(|at| at.raw() < FOUR_GIB),
            "{context}: no low frame"
        );
    }
    for n in [0, BAD.len / PAGE - 1] {
        let frame = Mfn::new(BAD.at.frame().raw() + n);
        assert_eq!(machine.frames.use_of(frame), FrameUse::Own);
    }
    let free = machine.frames.stats().free_frames;
    assert!(free > KEPT / 2, "{context}: {free} frames are left");
}

/// CASE-low-memory: dom0 with less than the low memory, all of it, more, and nearly all of the
/// machine; BIOS' map.
#[test]
fn cpus_and_devices_come_up_whatever_dom0_takes() {
    for (mib, wishes) in [
        (8192, &[512, 2048, 4096, 8192][..]),
        (5120, &[2048, 5000]),
        (4096, &[2048, 3072, 4000]),
        (2048, &[512, 2000]),
        (512, &[384]),
    ] {
        for &wish in wishes {
            let context = std::format!("{mib} MiB, dom0 {wish} MiB");
            let machine = machine(&q35(mib), wish, true);
            let got = machine.dom0 * PAGE / MIB;
            // Nearly all: what the kept frames, frame table, tables and modules leave.
            assert!(
                got == wish || (wish > mib - 200 && got > mib - 200),
                "{context}: {got}"
            );
            comes_up(&machine, &context);
        }
    }
}

/// The hypervisor needs only a few frames of tables and the roots of shadows below 4 GiB,
/// not the modules.
#[test]
fn modules_and_tables_leave_the_low_memory_to_dom0() {
    for gib_pages in [true, false] {
        let machine = machine(&q35(8192), 2048, gib_pages);
        for module in &machine.modules {
            assert!(module.at.raw() >= 4 * GIB);
        }
        let low: u64 = machine
            .map
            .iter()
            .filter(|r| r.kind == 1 && r.start < 4 * GIB)
            .map(|r| r.len)
            .sum();
        let all: u64 = q35(2048).iter().map(|(_, len)| len).sum();
        // The image, bad RAM, the roots of shadows, and with 2 MiB pages a table for each GiB.
        assert!(
            all - low <= 2 * MIB + BAD.len + 2 * MIB + 128 * 1024,
            "{} KiB",
            (all - low) >> 10
        );
    }
}

/// UEFI's map: dozens of ranges, with holes and small pieces.
#[test]
fn machines_of_many_ranges_start() {
    let mut ram = [(0, 0x9_f000), (MIB, 700 * MIB)].to_vec();
    ram.extend((0..100).map(|n| (1024 * MIB + n * 4 * MIB, 2 * MIB + n * PAGE)));
    ram.push((4 * GIB, GIB));
    for wish in [512, 768, 1700] {
        let machine = machine(&ram, wish, true);
        assert!(machine.map.len() <= MOST_ENTRIES);
        comes_up(&machine, "many ranges");
    }
}

#[test]
fn one_range_is_enough() {
    let machine = machine(&[(0, GIB)], 800, false);
    assert_eq!(machine.dom0, 800 * MIB / PAGE);
    comes_up(&machine, "one range");
}

/// RAM above 1 TiB, with a hole of a TiB before it, and beyond what the direct map reaches.
#[test]
fn ram_above_a_tebibyte_is_used() {
    const TIB: u64 = 1 << 40;
    let mut ram = q35(1024);
    ram.extend([(TIB + GIB, 128 * MIB), (3 * TIB, 64 * MIB)]);
    for gib_pages in [true, false] {
        let machine = machine(&ram, 1100, gib_pages);
        assert!(machine.map.iter().any(|r| r.kind == 1 && r.start > TIB));
        for at in [TIB + GIB, 3 * TIB, 3 * TIB + 63 * MIB] {
            let linear = Vaddr::new(oxen_types::layout::DIRECT_MAP + at);
            let leaf = machine.space.translate(linear).unwrap();
            assert_eq!(leaf.mfn, Maddr::new(at).frame());
        }
        assert_eq!(
            machine.frames.use_of(Mfn::new(TIB / PAGE)),
            FrameUse::NotRam
        );
        assert!(machine.modules[0].at.raw() >= 3 * TIB);
        comes_up(&machine, "above a TiB");
    }
    let beyond = MemoryMap::new(core::iter::once(FirmwareRange {
        start: 5 * TIB - GIB,
        len: 2 * GIB,
        kind: FirmwareKind::Ram,
    }));
    assert_eq!(
        beyond.end().base().raw(),
        oxen_types::layout::DIRECT_MAP_LEN
    );
}

/// Firmware tables in memory that is no RAM, above 4 GiB and above 1 TiB.
#[test]
fn firmware_tables_are_mapped_wherever_they_lie() {
    let machine = machine(&q35(4096), 1024, true);
    for at in [
        0x7ffe_0010,
        6 * GIB + 0xff0,
        0x100_0000_2000,
        (4 << 40) + 0x123,
    ] {
        let linear = machine.space.map_firmware(Maddr::new(at), 0x2000).unwrap();
        assert_eq!(linear.raw(), oxen_types::layout::DIRECT_MAP + at);
        let leaf = machine.space.translate(linear).unwrap();
        assert!(leaf.mfn == Maddr::new(at).frame() && leaf.attrs.cached && !leaf.attrs.exec);
    }
    let beyond = Maddr::new(oxen_types::layout::DIRECT_MAP_LEN - 8);
    assert!(machine.space.map_firmware(beyond, 16).is_err());
}

/// Linux takes no more than 128 entries: RAM of the least ranges stays unused, and what is not RAM
/// stays so.
#[test]
fn dom0_gets_no_more_entries_than_it_takes() {
    let mut ram = [(0, 0x9_f000), (MIB, 700 * MIB)].to_vec();
    ram.extend((0..200).map(|n| (1024 * MIB + n * 4 * MIB, (1 + n % 3) * MIB)));
    let machine = machine_of_entries(&ram);
    assert!(machine.len() <= MOST_ENTRIES);
    assert_eq!((machine[0].start, machine[0].kind), (0, 1));
    assert!(
        machine
            .windows(2)
            .all(|w| w[0].start + w[0].len <= w[1].start)
    );
    let inside = |at: u64| {
        ram.iter()
            .any(|&(start, len)| (start..start + len).contains(&at))
    };
    for range in machine.iter().filter(|r| r.kind == 1) {
        assert!(inside(range.start) && inside(range.start + range.len - 1));
    }
}

fn machine_of_entries(ram: &[(u64, u64)]) -> Vec<MapRange> {
    let machine = machine_without_map(ram);
    let entries = ram.iter().map(|&(start, len)| MapRange {
        start,
        len,
        kind: 1,
    });
    build_map(machine, entries, MOST_ENTRIES)
}

fn machine_without_map(ram: &[(u64, u64)]) -> &'static FrameTable {
    let firmware = ram.iter().map(|&(start, len)| FirmwareRange {
        start,
        len,
        kind: FirmwareKind::Ram,
    });
    let mut map = MemoryMap::new(firmware);
    let phys = Phys::sparse(map.end().raw());
    let frames: &'static FrameTable =
        Box::leak(Box::new(FrameTable::new(phys, &mut map, &[]).unwrap()));
    let spans = ram
        .iter()
        .map(|&(start, len)| (start.div_ceil(PAGE), (start + len) / PAGE));
    reserve(frames, spans, u64::MAX, 0);
    frames
}

#[test]
fn a_part_of_a_range_changes_its_kind() {
    let whole = [(0, 0x1000), (0x10_0000, 0x10_0000)];
    let mut map: Vec<_> = whole
        .map(|(start, len)| MapRange {
            start,
            len,
            kind: 1,
        })
        .to_vec();
    set_kind(&mut map, 0x18_0000, 0x1000, 3);
    set_kind(&mut map, 0x40_0000, 0x1000, 3);
    let kinds: Vec<_> = map.iter().map(|r| (r.start, r.len, r.kind)).collect();
    assert_eq!(
        kinds,
        [
            (0, 0x1000, 1),
            (0x10_0000, 0x8_0000, 1),
            (0x18_0000, 0x1000, 3),
            (0x18_1000, 0x7_f000, 1)
        ]
    );
}
