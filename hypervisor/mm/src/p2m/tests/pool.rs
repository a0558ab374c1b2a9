//! Tables come from the domain's paging pool and from nowhere else.

use super::*;

fn with_pool(frames: &'static FrameTable, pool_pages: u64) -> GuestSpace<Ept> {
    let config = SpaceConfig {
        pool_pages,
        ..config(DOM)
    };
    space_of::<Ept>(frames, config).0
}

/// A guest that spreads its pages thinly gets -ENOMEM, and not the machine's memory for its tables.
#[test]
fn tables_are_limited_by_the_pool() {
    let frames = test_table(0x4000);
    let before = frames.stats();
    let space = with_pool(frames, 500);
    let free = frames.stats().free_frames;
    assert_eq!(free, before.free_frames - 500);
    let spread = (0..4096).map(|n| space.populate(g(n << 9), 0));
    let done = spread.take_while(|result| *result == Ok(())).count() as u64;
    assert!((480..500).contains(&done), "{done} pages");
    assert_eq!(space.table_pages(), 500);
    assert_eq!(frames.stats().free_frames, free - done);
    // More pool, more pages; less of it is not to be had.
    while !space.set_pool(600).unwrap() {}
    space.populate(g(3000 << 9), 0).unwrap();
    assert_eq!(space.set_pool(100), Err(Errno::NoMem));
    while !space.teardown(100) {}
    assert_eq!((space.ram_frames(), space.table_pages()), (0, 1));
    while !space.set_pool(0).unwrap() {}
    assert_eq!(
        (space.pool(), frames.stats().free_frames),
        (1, before.free_frames - 1)
    );
    drop(space);
    assert_eq!(frames.stats(), before);
}

/// A balloon of Linux' has BUG_ON for a decrease_reservation that does not take all.
#[test]
fn to_give_up_a_part_of_a_large_page_never_fails() {
    let frames = test_table(0x4000);
    // A table for each of the large pages, and the three on the way there.
    let space = with_pool(frames, 8 + 3);
    for n in 0..8 {
        space.populate(g(n << 9), 9).unwrap();
    }
    // No large page more than could be split, and no table that one of them may need.
    assert_eq!(space.populate(g(8 << 9), 9), Err(Errno::NoMem));
    assert_eq!(space.move_ram(g(7), g(1 << 27)), Err(Errno::NoMem));
    // Nothing is left in the machine either.
    while frames
        .alloc_own(0, OTHER, AllocOptions::default())
        .is_some()
    {}
    for n in 0..8 {
        assert_eq!(space.release(g((n << 9) + 100)), Ok(()));
    }
    assert_eq!(space.ram_frames(), 8 * 511);
    assert_eq!(space.pool.owed(), 0);
}

#[test]
fn what_is_owed_goes_with_large_pages() {
    let frames = test_table(0x4000);
    let space = with_pool(frames, 64);
    let owed = || space.pool.owed();
    for n in 0..6 {
        space.populate(g(n << 9), 9).unwrap();
    }
    assert_eq!(owed(), 6);
    space.release(g(0)).unwrap();
    assert_eq!(owed(), 5);
    let mut whole = [g(1 << 9)].into_iter();
    space.release_all(9, &mut whole, &mut |result| result.unwrap());
    assert_eq!(owed(), 4);
    // Log-dirty mode protects a large page as it is, and splits it at the first write.
    while space.log_writes(true, g(0)).is_some() {}
    assert_eq!(owed(), 4);
    assert!(space.log_write(g(2 << 9)));
    assert_eq!(owed(), 3);
    while !space.teardown(100) {}
    assert_eq!((owed(), space.table_pages()), (0, 1));
}

/// The reviewed attack: a machine filled by its toolstack, and pages moved to thinly spread gfns.
#[test]
fn a_guest_does_not_eat_the_reserve_by_its_tables() {
    let frames = test_table(0x10000);
    let heap = crate::heap::Slabs::new();
    heap.init(frames);
    let space = with_pool(frames, 768);
    let mut at = 0x200u64;
    while space.populate(g(at), 9).is_ok() {
        at += 512;
    }
    let mut n = 0;
    while space.populate(g((1 << 26) + n), 0).is_ok() {
        n += 1;
    }
    let free = frames.stats().free_frames;
    assert_eq!(free, frames.reserve());
    let moved = (0..4096u64)
        .take_while(|n| space.move_ram(g(0x200 + n), g((n + 8) << 15)).is_ok())
        .count();
    assert!(moved > 100, "{moved}");
    assert_eq!(frames.stats().free_frames, free);
    // dom0's own allocations do not fail for that.
    assert!(frames.alloc(DomainId::DOM0).is_some());
    assert!(
        frames.alloc(DOM).is_none(),
        "nor do guests' frames of other kinds take it"
    );
}
