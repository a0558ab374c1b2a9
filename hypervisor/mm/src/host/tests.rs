//! The hypervisor's address space on a machine that is an arena.

use alloc::boxed::Box;

use oxen_core::seams::FrameSource;

use super::*;
use crate::FrameUse;
use crate::memmap::{FirmwareKind, FirmwareRange};

const FRAMES: u64 = 0x2000;

fn image() -> [Section; 3] {
    let section = |at: u64, len, rights| Section {
        vaddr: Vaddr::new(layout::IMAGE + 0x8000_0000 + at),
        maddr: Maddr::new(at),
        len,
        rights,
    };
    [
        section(0x20_0000, 0x5000, Rights::Execute),
        section(0x20_5000, 0x3000, Rights::Read),
        section(0x20_8000, 0x1_8000, Rights::ReadWrite),
    ]
}

fn space() -> (HostSpace, &'static FrameTable) {
    let phys = Phys::arena(FRAMES);
    let ram = |start, len| FirmwareRange {
        start,
        len,
        kind: FirmwareKind::Ram,
    };
    // A hole from 20 to 24 MiB.
    let fw = [ram(0, 20 << 20), ram(24 << 20, 8 << 20)];
    let mut map = MemoryMap::new(fw.into_iter());
    map.reserve(0x20_0000, 0x2_0000);
    let builder = HostBuilder::new(phys, &mut map, &image(), true).unwrap();
    let table = FrameTable::new(phys, &mut map, &[]).unwrap();
    let frames: &'static FrameTable = Box::leak(Box::new(table));
    assert_eq!(frames.use_of(builder.root().frame()), FrameUse::Own);
    (HostSpace::new(builder, frames), frames)
}

fn direct(maddr: u64) -> Vaddr {
    Vaddr::new(layout::DIRECT_MAP + maddr)
}

#[test]
fn all_ram_and_nothing_else_is_in_the_direct_map() {
    let (space, _) = space();
    for mfn in 0..FRAMES {
        let leaf = space.translate(direct(mfn << 12));
        let hole = (0x1400..0x1800).contains(&mfn);
        assert_eq!(leaf.map(|l| l.mfn), (!hole).then(|| Mfn::new(mfn)));
        assert!(leaf.is_none_or(|l| !l.attrs.exec && l.attrs.cached));
    }
    assert_eq!(space.translate(direct(FRAMES << 12)), None);
    assert_eq!(space.translate(Vaddr::new(0x20_0000)), None, "no identity");
    assert_eq!(space.translate(direct(0x1000 << 12)).unwrap().level, 2);
}

#[test]
fn nothing_of_the_image_is_both_writable_and_executable() {
    let (space, _) = space();
    for section in image() {
        for at in (0..section.len).step_by(PAGE_SIZE) {
            let at_image = Vaddr::new(section.vaddr.raw() + at);
            let leaf = space.translate(at_image).unwrap();
            let alias = space.translate(direct(section.maddr.raw() + at)).unwrap();
            assert_eq!(
                (leaf.mfn, alias.mfn.base().raw()),
                (alias.mfn, section.maddr.raw() + at)
            );
            assert_eq!(leaf.attrs.write, section.rights == Rights::ReadWrite);
            assert_eq!(leaf.attrs.exec, section.rights == Rights::Execute);
            assert_eq!(alias.attrs.write, section.rights == Rights::ReadWrite);
            assert!(!alias.attrs.exec);
        }
    }
}

#[test]
fn sections_that_do_not_fit_are_refused() {
    let map = || {
        MemoryMap::new(core::iter::once(FirmwareRange {
            start: 0,
            len: 8 << 20,
            kind: FirmwareKind::Ram,
        }))
    };
    let build = |section: Section| {
        let phys = Phys::arena(0x800);
        HostBuilder::new(phys, &mut map(), &[section, image()[0]], false).err()
    };
    let [good, ..] = image();
    let low = Section {
        vaddr: Vaddr::new(0x20_0000),
        ..good
    };
    assert_eq!(build(low), Some(HostError::BadRange));
    assert_eq!(
        build(Section {
            len: 0x5001,
            ..good
        }),
        Some(HostError::BadRange)
    );
    assert_eq!(
        build(good),
        Some(HostError::BadRange),
        "the same section twice"
    );
}

#[test]
fn devices_are_uncached_and_ram_is_no_device() {
    let (space, _) = space();
    let at = space.map_device(Maddr::new(0xfee0_0020), 0x1000).unwrap();
    assert_eq!(at, direct(0xfee0_0020));
    for page in [0xfee0_0000, 0xfee0_1000] {
        let attrs = space.translate(direct(page)).unwrap().attrs;
        assert!(!attrs.cached && attrs.write && !attrs.exec);
    }
    assert_eq!(
        space.map_device(Maddr::new(0xfee0_0000), 8),
        Ok(direct(0xfee0_0000))
    );
    assert_eq!(
        space.map_device(Maddr::new(0x100_0000), 8),
        Err(HostError::BadRange)
    );
    assert_eq!(
        space.map_device(Maddr::new(u64::MAX), 2),
        Err(HostError::BadRange)
    );
    assert_eq!(
        space.map_device(Maddr::new(1 << 45), 2),
        Err(HostError::BadRange)
    );
    // Firmware tables in the hole: read-only; what reaches into RAM leaves that as it is.
    space.map_firmware(Maddr::new(0x17f_fff0), 0x20).unwrap();
    assert!(!space.translate(direct(0x17f_f000)).unwrap().attrs.write);
    assert!(space.translate(direct(0x180_0000)).unwrap().attrs.write);
}

/// The configuration space of 256 buses takes pages of 2 MiB, but for the part that has a smaller
/// page in it.
#[test]
fn large_device_areas_take_few_tables() {
    let (space, frames) = space();
    space.map_device(Maddr::new(0xb040_3000), 0x1000).unwrap();
    let free = frames.stats().free_frames;
    space
        .map_device(Maddr::new(0xb000_0000), 256 << 20)
        .unwrap();
    assert_eq!(free, frames.stats().free_frames);
    for (at, level) in [
        (0xb000_0000, 2),
        (0xb040_3000, 1),
        (0xb040_4000, 1),
        (0xbfff_f000, 2),
    ] {
        let leaf = space.translate(direct(at)).unwrap();
        assert_eq!((leaf.level, leaf.attrs.cached), (level, false));
    }
    // What begins or ends within 2 MiB takes no more than it is.
    space
        .map_device(Maddr::new(0xd010_0000), 0x20_0000)
        .unwrap();
    assert_eq!(space.translate(direct(0xd010_0000)).unwrap().level, 1);
    assert_eq!(space.translate(direct(0xd030_0000)), None);
}

#[test]
fn stacks_lie_between_guard_pages() {
    let (space, frames) = space();
    let free = frames.stats().free_frames;
    let stacks = [space.alloc_stack(4).unwrap(), space.alloc_stack(2).unwrap()];
    assert!(free - frames.stats().free_frames >= 6);
    for (stack, pages) in stacks.iter().zip([4, 2]) {
        assert_eq!(stack.top.raw() - stack.bottom.raw(), pages * PAGE);
        for page in 0..pages {
            let attrs = space
                .translate(Vaddr::new(stack.bottom.raw() + page * PAGE))
                .unwrap()
                .attrs;
            assert!(attrs.write && !attrs.exec);
        }
        assert_eq!(space.translate(Vaddr::new(stack.bottom.raw() - 1)), None);
        assert_eq!(space.translate(stack.top), None);
    }
    assert!(stacks[1].bottom > stacks[0].top);
}
