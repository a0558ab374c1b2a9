//! The allocator and the reference counts on a machine that is an arena.

use alloc::boxed::Box;
use alloc::vec::Vec;

use oxen_core::seams::{FrameSource, PageRef};
use oxen_types::Errno;
use proptest::prelude::*;

use super::*;
use crate::memmap::{FirmwareKind, FirmwareRange};

const DOM: DomainId = DomainId(3);

/// Every frame that is free, by walking the states.
fn free_by_state(frames: &FrameTable) -> u64 {
    (0..frames.end().raw())
        .filter(|&n| frames.use_of(Mfn::new(n)) == FrameUse::Free)
        .count() as u64
}

/// The orders of the free blocks, by walking the states.
fn blocks(frames: &FrameTable) -> Vec<(u64, u32)> {
    let order = |n| {
        frames
            .get_entry(Mfn::new(n))
            .and_then(|entry| entry.state().free_order())
    };
    (0..frames.end().raw())
        .filter_map(|n| order(n).map(|order| (n, order)))
        .collect()
}

#[test]
fn first_mib_and_holes_are_not_handed_out() {
    let ram = |start: u64, len: u64| FirmwareRange {
        start,
        len,
        kind: FirmwareKind::Ram,
    };
    let fw = [
        ram(0, 0x9f000),
        ram(0x10_0000, 0x60_0000),
        ram(0x500_0000, 0x300_0000),
    ];
    let mut map = MemoryMap::new(fw.into_iter());
    map.reserve(0x20_0000, 0x10_0000);
    let phys = Phys::arena(0x8000);
    let frames: &'static FrameTable =
        Box::leak(Box::new(FrameTable::new(phys, &mut map, &[]).unwrap()));
    assert_eq!(frames.stats().total_frames, 0x9f + 0x600 + 0x3000);
    assert_eq!(frames.stats().max_frame, 0x7fff);
    assert_eq!(frames.stats().free_frames, free_by_state(frames));
    assert_eq!(frames.use_of(Mfn::new(0x10)), FrameUse::Own);
    assert_eq!(frames.use_of(Mfn::new(0x200)), FrameUse::Own);
    assert_eq!(frames.use_of(Mfn::new(0x300)), FrameUse::Free);
    assert_eq!(frames.use_of(Mfn::new(0x1000)), FrameUse::NotRam);
    assert_eq!(frames.run(Mfn::new(0x700)), (FrameUse::NotRam, 0x4900));
    let has_ram = |first, count| frames.has_ram(Mfn::new(first), count);
    assert!(has_ram(0, 1) && has_ram(0x6ff, 1) && has_ram(0x700, u64::MAX) && has_ram(0x7fff, 9));
    assert!(!has_ram(0x9f, 0x61) && !has_ram(0x700, 0x4900) && !has_ram(0x8000, u64::MAX));
    assert!(!has_ram(0, 0) && !has_ram(u64::MAX, 5));
    while let Some(page) = frames.alloc(DomainId::DOM0) {
        let n = page.into_mfn().raw();
        assert!(
            (0x100..0x200).contains(&n)
                || (0x300..0x700).contains(&n)
                || (0x5000..0x8000).contains(&n)
        );
    }
    assert_eq!(frames.stats().free_frames, 0);
    // Modules go to the allocator once they are used up.
    frames.free_own(Mfn::new(0x200), 0x100);
    assert_eq!(frames.stats().free_frames, 0x100);
}

#[test]
fn nodes_and_the_4_gib_border_do_not_merge() {
    let ram = FirmwareRange {
        start: 0,
        len: 8 << 20,
        kind: FirmwareKind::Ram,
    };
    let mut map = MemoryMap::new(core::iter::once(ram));
    let node = |start, end, node| NodeRange {
        start: Mfn::new(start),
        end: Mfn::new(end),
        node,
    };
    let nodes = [node(0, 0x300, 0), node(0x300, 0x800, 1)];
    let frames = FrameTable::new(Phys::arena(0x800), &mut map, &nodes).unwrap();
    assert!(
        blocks(&frames)
            .iter()
            .all(|&(n, order)| n >= 0x300 || n + (1 << order) <= 0x300)
    );
    let near = |node| AllocOptions {
        node: Some(node),
        ..AllocOptions::default()
    };
    assert!(frames.alloc_own(0, DOM, near(0)).unwrap().raw() < 0x300);
    assert!(frames.alloc_own(0, DOM, near(1)).unwrap().raw() >= 0x300);
    // A node that has nothing, or is not there, is no reason to fail.
    assert!(frames.alloc_own(0, DOM, near(7)).is_some());
}

#[test]
fn references_are_counted_and_limited() {
    let frames = test_table(0x1000);
    let before = frames.stats();
    let page = frames.alloc(DOM).unwrap();
    let mfn = page.mfn();
    assert_eq!(frames.owner(mfn), Some(DOM));
    assert_eq!(frames.ram_of(DOM), 0);
    page.write(4090, b"0123456789");
    let mut back = [0u8; 10];
    page.read(4090, &mut back);
    assert_eq!(&back, b"012345\0\0\0\0");
    let second = page.try_clone().unwrap();
    drop(page);
    assert_eq!(frames.use_of(mfn), FrameUse::Counted);
    frames
        .entry(mfn)
        .set(frames.entry(mfn).state().with_references(1 << 30));
    assert!(!frames.get(mfn));
    frames
        .entry(mfn)
        .set(frames.entry(mfn).state().with_references(1));
    drop(second);
    assert_eq!(frames.stats(), before);
    assert!(!frames.get(mfn) && frames.owner(mfn).is_none());
    // What was in it is gone when it is handed out again.
    while let Some(page) = frames.alloc(DOM) {
        assert_eq!(page.word(4092).load(Ordering::Relaxed), 0);
        page.into_mfn();
    }
    for other in [0x10, 0x1000, u64::MAX] {
        assert!(!frames.get(Mfn::new(other)));
    }
}

#[test]
#[should_panic(expected = "no reference")]
fn a_reference_too_many_given_back_is_a_bug() {
    let frames = test_table(0x1000);
    let mfn = frames.alloc(DOM).unwrap().into_mfn();
    frames.put(mfn);
    frames.put(mfn);
}

#[test]
#[should_panic(expected = "freed twice")]
fn a_block_freed_twice_is_a_bug() {
    let frames = test_table(0x1000);
    let at = frames.alloc_own(3, DOM, AllocOptions::default()).unwrap();
    frames.free_own(at, 8);
    frames.free_own(at, 1);
}

#[test]
fn ram_is_charged_until_the_last_reference_goes() {
    let frames = test_table(0x1000);
    let before = frames.stats();
    assert!(!frames.charge(DOM, 5, 4) && !frames.charge(DomainId::SELF, 1, 4));
    assert!(frames.charge(DOM, 4, 4) && !frames.charge(DOM, 1, 4));
    let at = frames.alloc_ram(2, DOM).unwrap();
    let held = PageRef::take(frames, Mfn::new(at.raw() + 1)).unwrap();
    frames.put_run(at, 4);
    assert_eq!(frames.ram_of(DOM), 1);
    assert_eq!(frames.stats().free_frames, before.free_frames - 1);
    drop(held);
    assert_eq!((frames.ram_of(DOM), frames.stats()), (0, before));
}

#[test]
fn guests_leave_the_hypervisor_a_reserve() {
    let frames = test_table(0x2000);
    assert!(frames.charge(DOM, 0x2000, 0x2000));
    let taken = core::iter::from_fn(|| frames.alloc_ram(0, DOM)).count() as u64;
    assert!(taken > 0x1000);
    assert_eq!(frames.stats().free_frames, 0x2000 / 64);
    // Nor do they get it as frames of other kinds.
    assert!(frames.alloc(DOM).is_none() && frames.alloc_prepaid(DOM).is_none());
    assert!(frames.alloc(DomainId::DOM0).is_some());
}

#[test]
fn identity_frames_come_and_go_by_number() {
    let frames = test_table(0x1000);
    let used = frames
        .alloc_own(0, DomainId::XEN, AllocOptions::default())
        .unwrap();
    let before = frames.stats();
    let start = Mfn::new(used.raw() - 100);
    let n = frames.reserve_identity(start, 200, DomainId::DOM0);
    let outside = 200 - n;
    assert!(
        (1..200).contains(&outside),
        "the frame in use, and what lies past the end, are left out"
    );
    assert_eq!(frames.stats().free_frames, before.free_frames - n);
    assert_eq!(frames.use_of(start), FrameUse::SetAside);
    assert_eq!(frames.stats().free_frames, free_by_state(frames));
    assert!(frames.charge(DomainId::DOM0, 2, 10));
    assert!(
        !frames.take_identity(start, 1, DOM, true),
        "another domain's"
    );
    assert!(frames.take_identity(start, 0, DomainId::DOM0, true));
    assert!(!frames.take_identity(start, 0, DomainId::DOM0, true));
    let page = PageRef::adopt(frames, start);
    assert!(page.try_clone().is_some());
    page.into_mfn();
    frames.put(start);
    assert_eq!(frames.use_of(start), FrameUse::SetAside);
    assert_eq!(
        frames.reserve_identity(Mfn::new(4), 4, DomainId::DOM0),
        4,
        "of the first MiB"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Blocks do not overlap, are aligned, and when all are back the free lists are what they were.
    #[test]
    fn blocks_do_not_overlap_and_merge_again(
        ops in prop::collection::vec((any::<bool>(), 0u32..11, any::<prop::sample::Index>()), 1..120)
    ) {
        let frames = test_table(0x1000);
        let before = (blocks(frames), frames.stats());
        let mut held: Vec<(u64, u64)> = Vec::new();
        for (alloc, order, pick) in ops {
            if alloc {
                if let Some(at) = frames.alloc_own(order, DOM, AllocOptions::default()) {
                    let (at, len) = (at.raw(), 1u64 << order);
                    prop_assert!(at % len == 0);
                    prop_assert!(held.iter().all(|&(a, l)| a + l <= at || at + len <= a));
                    held.push((at, len));
                }
            } else if !held.is_empty() {
                // Give back the whole, or a part, as the heap does.
                let n = pick.index(held.len());
                let (at, len) = held.swap_remove(n);
                let part = 1 + pick.index(len as usize) as u64;
                frames.free_own(Mfn::new(at + len - part), part);
                if part < len {
                    held.push((at, len - part));
                }
            }
            let used: u64 = held.iter().map(|(_, len)| len).sum();
            prop_assert_eq!(frames.stats().free_frames + used, before.1.free_frames);
        }
        prop_assert_eq!(frames.stats().free_frames, free_by_state(frames));
        for (at, len) in held {
            frames.free_own(Mfn::new(at), len);
        }
        prop_assert_eq!((blocks(frames), frames.stats()), before);
    }

    #[test]
    fn frames_taken_by_number_merge_again(numbers in prop::collection::btree_set(0x100u64..0x1000, 1..60)) {
        let frames = test_table(0x1000);
        let before = (blocks(frames), frames.stats());
        let mut taken = Vec::new();
        for n in numbers {
            if frames.reserve_identity(Mfn::new(n), 1, DOM) == 1 {
                taken.push(Mfn::new(n));
            }
        }
        let free = before.1.free_frames - taken.len() as u64;
        prop_assert_eq!(frames.stats().free_frames, free);
        prop_assert_eq!(free_by_state(frames), free);
        for mfn in taken {
            frames.entry(mfn).set(State::new(FrameUse::Own, DOM));
            frames.free_own(mfn, 1);
        }
        prop_assert_eq!((blocks(frames), frames.stats()), before);
    }
}

/// Claimed memory is not free to others; it becomes RAM of the domain that claimed it.
#[test]
fn a_claim_keeps_memory_for_its_domain() {
    let frames = test_table(0x4000);
    let (one, other) = (DomainId(5), DomainId(6));
    let free = frames.stats().free_frames - frames.reserve();
    let most = u64::MAX;
    assert_eq!(frames.claim(one, free + 1, most), Err(Errno::NoMem));
    assert_eq!(
        frames.claim(one, 20, 10),
        Err(Errno::Inval),
        "more than it may have"
    );
    frames.claim(one, free - 100, most).unwrap();
    assert_eq!(
        frames.claim(one, 50, most),
        Err(Errno::Inval),
        "one at a time"
    );
    assert_eq!(
        frames.claim(other, 101, most),
        Err(Errno::NoMem),
        "it is promised"
    );
    assert_eq!(frames.stats().claimed_frames, free - 100);
    // The other one gets what is left, as RAM and for its tables, and no more.
    let mut ram: Vec<Mfn> = (0..60).map(|_| take(frames, other).unwrap()).collect();
    let tables: Vec<Mfn> = (0..40)
        .map(|_| frames.alloc_prepaid(other).unwrap())
        .collect();
    assert!(take(frames, other).is_none() && frames.alloc_prepaid(other).is_none());
    assert!(frames.alloc_ram(4, other).is_none() && frames.alloc(other).is_none());
    // The first one gets all that it claimed, and its claim shrinks.
    ram.extend((0..free - 100).map(|n| take(frames, one).unwrap_or_else(|| panic!("{n}"))));
    assert_eq!(
        (frames.claim_of(one), frames.stats().claimed_frames),
        (0, 0)
    );
    assert!(take(frames, one).is_none());
    ram.into_iter().for_each(|mfn| frames.put(mfn));
    tables.into_iter().for_each(|mfn| frames.free_own(mfn, 1));
    // A claim counts what the domain has already, and can be given up.
    let had = take(frames, one).unwrap();
    assert_eq!(
        frames.claim(one, 1, most),
        Err(Errno::Inval),
        "it has as much"
    );
    frames.claim(one, 11, most).unwrap();
    assert_eq!(frames.claim_of(one), 10);
    frames.claim(one, 0, most).unwrap();
    frames.put(had);
    assert_eq!(frames.stats().free_frames - frames.reserve(), free);
}

/// A page of RAM, charged.
fn take(frames: &'static FrameTable, owner: DomainId) -> Option<Mfn> {
    assert!(frames.charge(owner, 1, u64::MAX));
    let mfn = frames.alloc_ram(0, owner);
    if mfn.is_none() {
        frames.uncharge(owner, 1);
    }
    mfn
}
