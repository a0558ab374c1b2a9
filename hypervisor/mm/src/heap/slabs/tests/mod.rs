//! The heap over a frame table of the host's memory.

use super::*;
use crate::frames::test_table;
use alloc::vec::Vec;
use oxen_core::seams::FrameSource;

fn heap(frames: &'static FrameTable) -> Slabs {
    let heap = Slabs::new();
    heap.init(frames);
    heap
}

#[test]
fn before_init_there_is_nothing() {
    assert!(Slabs::new().allocate(Layout::new::<u64>()).is_none());
}

#[test]
fn pages_are_aligned_and_in_the_direct_map() {
    let frames = test_table(1024);
    let heap = heap(frames);
    for (size, align) in [(4096, 4096), (12288, 4096), (1, 8192), (3000, 64)] {
        let at = heap
            .allocate(Layout::from_size_align(size, align).unwrap())
            .unwrap();
        let maddr = frames.phys().maddr(at);
        assert_eq!(maddr.raw() % align.max(4096) as u64, 0);
        assert_eq!(frames.phys().pointer(maddr), at);
    }
}

fn size(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 8).unwrap()
}

/// Takes all that guests could ever have.
fn exhaust(frames: &'static FrameTable) -> Vec<Mfn> {
    let take = || frames.alloc_own(0, DomainId(7), AllocOptions::default());
    core::iter::from_fn(take).collect()
}

#[test]
fn the_reserve_is_the_last_thing_that_objects_take() {
    let frames = test_table(0x4000);
    let heap = heap(frames);
    let before = frames.stats().free_frames;
    let mut held: Vec<_> = (0..1024).map(|_| heap.allocate(size(2048))).collect();
    assert!(held.iter().all(Option::is_some));
    assert_eq!(before - frames.stats().free_frames, 512 - AT_HAND);
    let theirs = exhaust(frames);
    // Every page of the reserve still serves: small objects, and those of up to a page.
    let reserve = frames.reserve();
    for n in 0..reserve {
        let bytes = if n % 2 == 0 { 2048 } else { 4096 };
        let at = heap.allocate(size(bytes));
        assert!(at.is_some(), "{n} of {reserve}");
        heap.release(at.unwrap(), size(bytes));
        held.push(heap.allocate(size(2048)));
        held.push(heap.allocate(size(2048)));
    }
    assert!(heap.allocate(size(2048)).is_none());
    // What is freed fills it again, before anybody else gets the pages.
    for at in held.into_iter().flatten() {
        heap.release(at, size(2048));
    }
    assert_eq!(heap.lists.lock().reserved, reserve + AT_HAND);
    assert_eq!(frames.stats().free_frames, 512 - AT_HAND);
    drop(theirs);
}

#[test]
fn the_reserve_is_refilled_when_memory_is_free_again() {
    let frames = test_table(0x4000);
    let heap = heap(frames);
    let at_hand: Vec<_> = (0..2 * AT_HAND)
        .map(|_| heap.allocate(size(2048)).unwrap())
        .collect();
    let theirs = exhaust(frames);
    let held: Vec<_> = (0..64)
        .map(|_| heap.allocate(size(2048)).unwrap())
        .collect();
    assert_eq!(heap.lists.lock().reserved, frames.reserve() - 32);
    theirs.iter().for_each(|page| frames.free_own(*page, 1));
    let more: Vec<_> = (0..64)
        .map(|_| heap.allocate(size(2048)).unwrap())
        .collect();
    assert_eq!(heap.lists.lock().reserved, frames.reserve());
    for at in held.into_iter().chain(more).chain(at_hand) {
        heap.release(at, size(2048));
    }
}

#[test]
fn objects_of_several_pages_fit_where_all_other_memory_is_in_pieces() {
    let frames = test_table(0x4000);
    let heap = heap(frames);
    let theirs = exhaust(frames);
    // No two free frames are neighbours.
    let free = theirs.iter().filter(|page| page.raw() % 2 == 0);
    free.for_each(|page| frames.free_own(*page, 1));
    for pages in [2, 3, 5, 16] {
        let at = heap.allocate(size(pages * PAGE_SIZE - 100));
        let at = at.unwrap_or_else(|| panic!("{pages} pages"));
        heap.release(at, size(pages * PAGE_SIZE - 100));
    }
    let all: Vec<_> = core::iter::from_fn(|| heap.allocate(size(3 * PAGE_SIZE))).collect();
    assert_eq!(all.len() as u64, contiguous::pages(frames) / 3);
    for at in all {
        heap.release(at, size(3 * PAGE_SIZE));
    }
}

#[test]
fn exhaustion_gives_null_and_all_comes_back() {
    let frames = test_table(1024);
    let heap = heap(frames);
    let before = frames.stats();
    for size in [16, 100, 2048, 5000] {
        let layout = Layout::from_size_align(size, 8).unwrap();
        let mut held = Vec::new();
        while let Some(at) = heap.allocate(layout) {
            held.push(at);
        }
        assert_eq!(frames.stats().heap_used, (held.len() * size) as u64);
        assert!(frames.stats().free_frames < 8 && held.len() > 100);
        for at in held {
            heap.release(at, layout);
        }
        assert_eq!(frames.stats(), before);
    }
}
