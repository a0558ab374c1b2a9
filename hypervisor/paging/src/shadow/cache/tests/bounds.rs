//! The cost of one step of the cache, whatever the guest does: shadows and entries looked at, not
//! time.

use std::vec::Vec;

use oxen_mm::pt::{Attrs, Format};
use oxen_types::Mfn;

use crate::shadow::cache::index::MOST_SHAPES;
use crate::shadow::cache::path::top;
use crate::shadow::cache::pool::Pair;
use crate::shadow::cache::{Allowance, Cache, Fmt, LOOSE, View};
use crate::testing::{Flat, OWNER, frames, zeroed};

const SHAPES: u16 = MOST_SHAPES as u16;
/// Of the hash that was: frames that fell into one bucket of it.
const COLLIDING: u64 = 0x9e37_79b9_7f4a_7c15;

/// No step of the cache may look at more: some 5 us.
const MOST: u64 = 4000;

fn cache(pages: usize) -> (Cache, View, Flat) {
    let frames = frames(0x10000);
    let cache = Cache::new(frames, OWNER, pages, [0x1234, 0x5678]).unwrap();
    let view = View::new(frames, OWNER).unwrap();
    (cache, view, Flat(zeroed(frames, 0)))
}

/// Runs a step; how much it looked at.
fn cost<T>(cache: &mut Cache, step: impl FnOnce(&mut Cache) -> T) -> u64 {
    let before = cache.counts().steps;
    step(cache);
    cache.counts().steps - before
}

/// As many shadows as the pool holds, of as few frames as they can be of, all in one bucket of a
/// hash that the guest knows.
fn crowd(cache: &mut Cache, view: &mut View, guest: &Flat, pages: usize) -> (Vec<u64>, u64) {
    let heads = (pages / 4).clamp(16, 1 << 14).next_power_of_two() as u64;
    let bucket = |gfn: u64| (gfn.wrapping_mul(COLLIDING) >> 32) & (heads - 1);
    let most = pages / 2 - 600;
    let frames = most / usize::from(SHAPES);
    let gfns: Vec<u64> = (0..1 << 22)
        .filter(|gfn| bucket(*gfn) == 7)
        .take(frames)
        .collect();
    let mut worst = 0;
    for gfn in &gfns {
        for shape in 0..SHAPES {
            let load =
                |cache: &mut Cache| cache.activate_root(view, Some(&top(shape, gfn << 12)), guest);
            worst = worst.max(cost(cache, load));
        }
    }
    (gfns, worst)
}

#[test]
fn no_step_takes_longer_for_what_else_there_is() {
    for pages in [0x1000, 0x8000] {
        let (mut cache, mut view, guest) = cache(pages);
        let (gfns, worst) = crowd(&mut cache, &mut view, &guest, pages);
        assert_eq!(
            cache.counts().resets,
            0,
            "{pages} pages: the guest has its shadows"
        );
        assert!(gfns.len() > 20);
        assert!(worst < MOST, "{pages} pages: a new shadow looks at {worst}");
        let key = top(3, gfns[0] << 12);
        let load = cost(&mut cache, |cache| {
            cache.activate_root(&mut view, Some(&key), &guest)
        });
        assert!(load < MOST, "{pages} pages: a load of CR3 looks at {load}");
        let sync = cost(&mut cache, |cache| cache.resync());
        assert!(sync < MOST, "{pages} pages: an INVLPG looks at {sync}");
    }
}

/// The guest fills the pool with shadows of different frames.
#[test]
fn no_bucket_is_longer_than_chance_has_it() {
    let (mut cache, mut view, guest) = cache(0x4000);
    for n in 0..7000 {
        let key = top(0, n << 12);
        let new = cost(&mut cache, |cache| {
            cache.activate_root(&mut view, Some(&key), &guest)
        });
        assert!(new < MOST, "shadow {n} looks at {new}");
    }
    assert_eq!(cache.counts().resets, 0);
}

/// A vcpu follows changes of the p2m before it enters, after its guest moved 64 pages onto its own
/// tables.
#[test]
fn changes_of_the_p2m_are_followed_in_bounded_time() {
    let (mut cache, mut view, guest) = cache(0x8000);
    let (gfns, _) = crowd(&mut cache, &mut view, &guest, 0x8000);
    for gfn in gfns.iter().skip(1).take(128) {
        let mut next = cache.index.next_of(&cache.pool, *gfn, None);
        while let Some(pair) = next {
            fill(&mut cache, pair);
            next = cache.index.next_of(&cache.pool, *gfn, Some(pair));
        }
    }
    let mut left = Allowance::for_changes();
    let mut kept = true;
    let follow = |cache: &mut Cache| {
        for gfn in gfns.iter().skip(1).take(128) {
            kept &= cache.page_changed(*gfn, &mut left);
        }
    };
    let steps = cost(&mut cache, follow);
    assert!(steps < 2 * 8192, "128 changes look at {steps}");
    assert!(!kept, "beyond that all is forgotten");
    // An ordinary change of a few pages takes no more than these.
    let few = cost(&mut cache, |cache| {
        let mut left = Allowance::for_changes();
        assert!(
            gfns.iter()
                .rev()
                .skip(1)
                .take(4)
                .all(|gfn| cache.page_changed(*gfn, &mut left))
        );
    });
    assert!(few < 2000, "four changes look at {few}");
}

/// Loose tables in many shapes, with all of their entries in use.
#[test]
fn tables_in_too_many_shapes_are_forgotten_and_not_compared() {
    let (mut cache, mut view, guest) = cache(0x8000);
    for gfn in 0..LOOSE as u64 {
        for shape in 0..SHAPES {
            cache.activate_root(&mut view, Some(&top(shape, gfn << 12)), &guest);
            fill(&mut cache, view.roots[0]);
        }
    }
    let resets = cache.counts().resets;
    let sync = cost(&mut cache, |cache| cache.resync_or_forget(|| ()));
    assert!(sync < 5 * MOST, "an INVLPG looks at {sync}");
    assert!(resets > 0 || cache.counts().resets > resets);
}

/// As if entries at both ends of a shadow had been filled in, and taken out again.
fn fill(cache: &mut Cache, pair: Pair) {
    for slot in [0, 511] {
        cache.set(pair, slot, Fmt::leaf(Mfn::new(1), 4, NOTHING));
        cache.set(pair, slot, 0);
    }
}

const NOTHING: Attrs = Attrs {
    write: false,
    exec: false,
    cached: true,
    fixed: false,
    tag: 0,
};
