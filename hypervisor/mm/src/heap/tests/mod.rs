//! The two heaps together: boot's objects live on when the slabs take over.

use super::*;
use crate::frames::test_table;
use alloc::vec::Vec;
use oxen_core::seams::FrameSource;
use proptest::prelude::*;

/// A region for one heap, which the test never gives back.
fn heap() -> Heap {
    Heap::new(alloc::boxed::Box::leak(alloc::boxed::Box::new(
        Region::new(),
    )))
}

fn size(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 8).unwrap()
}

#[test]
fn boots_objects_move_to_frames_when_they_grow() {
    let heap = heap();
    let frames = test_table(2048);
    // SAFETY: layouts are those that the objects were allocated with.
    unsafe {
        let early = [heap.alloc(size(100)), heap.alloc(size(9000))];
        assert!(early.iter().all(|at| heap.boot.holds(*at)));
        early[0].write_bytes(7, 100);
        heap.init(frames);
        let before = frames.stats();
        let late = heap.alloc(size(100));
        assert!(!heap.boot.holds(late));
        let grown = heap.realloc(early[0], size(100), 5000);
        assert!(!heap.boot.holds(grown));
        assert_eq!(core::slice::from_raw_parts(grown, 100), [7; 100]);
        heap.dealloc(grown, size(5000));
        heap.dealloc(late, size(100));
        heap.dealloc(early[1], size(9000));
        assert_eq!(frames.stats(), before);
    }
    assert_eq!(heap.boot.used(), 0);
}

#[test]
fn a_full_region_gives_null() {
    let heap = heap();
    // SAFETY: layouts are those that the objects were allocated with.
    unsafe {
        assert!(heap.alloc(size(1 << 20)).is_null());
        let held: Vec<_> = core::iter::from_fn(|| {
            let at = heap.alloc(size(4000));
            (!at.is_null()).then_some(at)
        })
        .collect();
        assert!(held.len() > 120);
        let (first, rest) = held.split_first().unwrap();
        assert!(heap.realloc(*first, size(4000), 9000).is_null());
        rest.iter().for_each(|at| heap.dealloc(*at, size(4000)));
        assert!(!heap.realloc(*first, size(4000), 9000).is_null());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Live objects do not overlap, keep their contents through realloc and through the end of
    /// boot, and leave nothing behind.
    #[test]
    fn objects_keep_their_contents(
        boot in 0..40usize,
        ops in prop::collection::vec((0..3u8, 1usize..9000, 0u32..8, any::<prop::sample::Index>()), 1..300)
    ) {
        let frames = test_table(2048);
        let heap = heap();
        let mut before = None;
        let mut live: Vec<(*mut u8, Layout, u8)> = Vec::new();
        let holds = |at: *mut u8, len: usize, mark: u8| {
            // SAFETY: a live object of at least `len` bytes.
            unsafe { core::slice::from_raw_parts(at, len) }.iter().all(|&b| b == mark)
        };
        for (step, (op, size, align, pick)) in ops.into_iter().enumerate() {
            let mark = step as u8;
            if step == boot {
                heap.init(frames);
                before = Some(frames.stats());
            }
            // SAFETY: layouts are those that the objects were allocated with.
            unsafe {
                if op == 0 || live.is_empty() {
                    let layout = Layout::from_size_align(size, 1 << align).unwrap();
                    let at = heap.alloc(layout);
                    prop_assert!(!at.is_null() && at.addr().is_multiple_of(layout.align()));
                    at.write_bytes(mark, size);
                    live.push((at, layout, mark));
                    continue;
                }
                let n = pick.index(live.len());
                let (at, layout, old) = live.swap_remove(n);
                prop_assert!(holds(at, layout.size(), old));
                if op == 1 {
                    heap.dealloc(at, layout);
                } else {
                    let to = heap.realloc(at, layout, size);
                    prop_assert!(holds(to, size.min(layout.size()), old));
                    to.write_bytes(mark, size);
                    live.push((to, Layout::from_size_align(size, layout.align()).unwrap(), mark));
                }
            }
        }
        let late = live.iter().filter(|(at, ..)| !heap.boot.holds(*at));
        let used: usize = late.map(|(_, layout, _)| layout.size()).sum();
        prop_assert_eq!(frames.stats().heap_used, used as u64);
        for (at, layout, mark) in live {
            prop_assert!(holds(at, layout.size(), mark));
            // SAFETY: the layout that the object was allocated with.
            unsafe { heap.dealloc(at, layout) };
        }
        prop_assert!(before.is_none_or(|before| frames.stats() == before));
        prop_assert_eq!(heap.boot.used(), 0);
    }
}
