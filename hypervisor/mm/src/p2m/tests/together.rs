//! Lists of changes are flushed together, and nothing is free before its flush.

use super::*;

fn release(space: &GuestSpace<Npt>, order: u32, blocks: impl IntoIterator<Item = u64>) -> usize {
    let mut done = 0;
    let mut list = blocks.into_iter().map(g);
    space.release_all(order, &mut list, &mut |result| {
        done += usize::from(result.is_ok())
    });
    done
}

#[test]
fn a_large_extent_of_small_pages_takes_a_flush_for_64() {
    let frames = test_table(0x2000);
    let (space, log) = space(frames);
    for page in 0..512 {
        space.populate(g(0x200 + page), 0).unwrap();
    }
    assert_eq!(release(&space, 9, [0x200]), 1);
    assert_eq!((flushes(&log), space.ram_frames()), (8, 0));
}

#[test]
fn a_large_page_goes_as_a_whole_and_needs_no_table() {
    let frames = test_table(0x2000);
    let (space, log) = space(frames);
    space.populate(g(0x200), 9).unwrap();
    let tables = space.table_pages();
    while frames
        .alloc_own(0, OTHER, AllocOptions::default())
        .is_some()
    {}
    assert_eq!(release(&space, 9, [0x200]), 1);
    assert_eq!((flushes(&log), space.ram_frames()), (1, 0));
    assert!(space.table_pages() < tables);
}

#[test]
fn frames_of_a_list_are_free_only_after_their_flush() {
    let frames = test_table(0x2000);
    let (space, log) = space(frames);
    for page in 0..100 {
        space.populate(g(0x200 + page), 0).unwrap();
    }
    let free = frames.stats().free_frames;
    // One page is not there: the others go all the same.
    assert_eq!(release(&space, 0, (0x200..0x200 + 101).rev()), 100);
    assert_eq!(flushes(&log), 2);
    // At the last flush those of the first were free, and no others.
    let then = log.free_then.load(Ordering::Relaxed);
    assert_eq!(then, free + 64);
    // With the last page its tables went, back to the pool.
    assert_eq!(frames.stats().free_frames, free + 100);
    assert_eq!(space.table_pages(), 1);
}

#[test]
fn moves_and_maps_of_a_list_are_flushed_together() {
    let frames = test_table(0x2000);
    let (space, log) = space(frames);
    for page in 0..64 {
        space.populate(g(0x200 + page), 0).unwrap();
    }
    let mut all = Vec::new();
    let mut list = (0..64).map(|n| (g(0x200 + n), g(0x1000 + n)));
    space.move_all(&mut list, &mut |result| all.push(result));
    assert!(all.iter().all(Result::is_ok) && all.len() == 64);
    assert!(flushes(&log) <= 3, "{} flushes", flushes(&log));
    let before = flushes(&log);
    let mut list = (0..64).map(|n| (g(0x1000 + n), frames.alloc(OTHER).unwrap()));
    space.map_all(MapKind::Foreign, &mut list, &mut |result| result.unwrap());
    assert_eq!((flushes(&log) - before, space.ram_frames()), (1, 0));
}

/// Frames of other kinds stand above RAM as well.
#[test]
fn the_highest_gfn_is_of_whatever_kind() {
    let frames = test_table(0x2000);
    let (space, _) = space(frames);
    space.populate(g(0x200), 9).unwrap();
    assert_eq!(space.max_gfn(), g(0x3ff));
    let page = frames.alloc(DOM).unwrap();
    space.map(g(0x4567), page, MapKind::Xen).unwrap();
    assert_eq!(space.max_gfn(), g(0x4567));
}

/// Writes into a frame at the flush: as a CPU does that still has the translation, until it is
/// flushed.
struct StaleWrite(&'static FrameTable, Arc<AtomicU64>);

impl FlushGuest for StaleWrite {
    fn flush(&self, _: Cause<'_>) {
        let mfn = Mfn::new(self.1.swap(0, Ordering::Relaxed));
        if mfn.raw() == 0 {
            return;
        }
        assert_ne!(
            self.0.use_of(mfn),
            crate::FrameUse::Free,
            "given away before its flush"
        );
        self.0.phys().write(mfn, 0, b"stale");
    }
}

/// Memory is cleared when it is given out, which is after the flush; not when it is taken away
/// (XSA-511).
#[test]
fn what_a_stale_translation_writes_nobody_reads() {
    let frames = test_table(0x2000);
    let (other, _) = space_of::<Npt>(frames, config(OTHER));
    let target = Arc::new(AtomicU64::new(0));
    let flush = Box::new(StaleWrite(frames, target.clone()));
    let space = GuestSpace::<Npt>::new(frames, config(DOM), flush).unwrap();
    space.populate(g(0x200), 9).unwrap();
    for page in 0..64 {
        let gfn = g(0x200 + page);
        let mfn = space.lookup(gfn).unwrap().mfn;
        target.store(mfn.raw(), Ordering::Relaxed);
        space.release(gfn).unwrap();
        assert_eq!(target.load(Ordering::Relaxed), 0, "flushed");
    }
    for page in 0..0x1000 {
        if other.populate(g(page), 0).is_err() {
            break;
        }
        let mut bytes = [1; 5];
        other.read(g(page).base(), &mut bytes).unwrap();
        assert_eq!(bytes, [0; 5], "page {page}");
    }
}
