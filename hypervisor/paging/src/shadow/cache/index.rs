//! Shadows by their guest frame: a hash table of frames, and for each frame the list of its
//! shadows.
//!
//! A bucket chains one shadow of each frame; all others of that frame hang on that one. So what a
//! guest can make long is the list of one frame, which is bounded ([`MOST_SHAPES`]), and no bucket:
//! the hash is keyed by a secret, so the guest does not know which frames share one. Both lists are
//! doubly linked, so a shadow is taken out without a walk.

use core::cell::Cell;
use core::sync::atomic::{AtomicU32, Ordering};

use arrayvec::ArrayVec;
use oxen_types::{DomainId, Mfn};

use super::key::Key;
use super::pool::{Info, NONE, Pair, Pool};
use oxen_mm::FrameTable;

/// Frames that hold the heads of the buckets, 1024 each.
const HEAD_FRAMES: usize = 4;
const HEADS: usize = HEAD_FRAMES * 1024;

/// More shadows of one frame than this, and all is forgotten: no guest of good will has them.
pub(super) const MOST_SHAPES: usize = 64;

pub(super) struct Index {
    frames: &'static FrameTable,
    heads: ArrayVec<Mfn, HEAD_FRAMES>,
    secret: [u64; 2],
    /// Shadows that were looked at, for tests of how long that takes.
    steps: Cell<u64>,
}

/// A place in the lists.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Links {
    /// In the bucket. Only of the first shadow of a frame.
    bucket: [Pair; 2],
    /// Among the shadows of one frame.
    frame: [Pair; 2],
}

const BEFORE: usize = 0;
const AFTER: usize = 1;

impl Links {
    pub(super) const NONE: Self = Self {
        bucket: [NONE; 2],
        frame: [NONE; 2],
    };
}

impl Index {
    pub(super) fn new(
        frames: &'static FrameTable,
        owner: DomainId,
        secret: [u64; 2],
    ) -> Option<Self> {
        let mut index = Self {
            frames,
            heads: ArrayVec::new(),
            secret,
            steps: Cell::new(0),
        };
        for _ in 0..HEAD_FRAMES {
            index.heads.push(frames.alloc_prepaid(owner)?);
        }
        index.clear();
        Some(index)
    }

    pub(super) fn clear(&mut self) {
        for frame in &self.heads {
            let words = self.frames.phys().words(*frame);
            words
                .iter()
                .for_each(|head| head.store(NONE, Ordering::Relaxed));
        }
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps.get()
    }

    fn step(&self) {
        self.steps.set(self.steps.get() + 1);
    }

    fn head(&self, gfn: u64) -> Option<&'static AtomicU32> {
        let bucket = keyed_hash(self.secret, gfn) as usize % HEADS;
        let frame = self.heads.get(bucket / 1024)?;
        self.frames.phys().words(*frame).get(bucket % 1024)
    }

    /// The first shadow of a frame, on which the others hang.
    fn first(&self, pool: &Pool, gfn: u64) -> Option<Pair> {
        let mut at = self.head(gfn)?.load(Ordering::Relaxed);
        while let Some(info) = pool.info(at) {
            self.step();
            if info.key.gfn == gfn {
                return Some(at);
            }
            at = info.links.bucket[AFTER];
        }
        None
    }

    /// All shadows of a frame.
    fn all<'p>(&'p self, pool: &'p Pool, gfn: u64) -> impl Iterator<Item = (Pair, &'p Info)> + 'p {
        let mut at = self.first(pool, gfn).unwrap_or(NONE);
        core::iter::from_fn(move || {
            let info = pool.info(at)?;
            self.step();
            let pair = core::mem::replace(&mut at, info.links.frame[AFTER]);
            Some((pair, info))
        })
    }

    pub(super) fn find(&self, pool: &Pool, key: &Key) -> Option<Pair> {
        let found = self.all(pool, key.gfn).find(|(_, info)| info.key == *key);
        found.map(|(pair, _)| pair)
    }

    pub(super) fn count(&self, pool: &Pool, gfn: u64) -> usize {
        self.all(pool, gfn).count()
    }

    /// The first shadow of a guest's table, or the one after `last`.
    pub(super) fn next_of(&self, pool: &Pool, gfn: u64, last: Option<Pair>) -> Option<Pair> {
        let mut at = match last {
            None => self.first(pool, gfn)?,
            Some(last) => pool.info(last)?.links.frame[AFTER],
        };
        while let Some(info) = pool.info(at) {
            self.step();
            if info.guest.is_some() {
                return Some(at);
            }
            at = info.links.frame[AFTER];
        }
        None
    }

    pub(super) fn insert(&mut self, pool: &mut Pool, pair: Pair, mut info: Info) {
        let Some(head) = self.head(info.key.gfn) else {
            return;
        };
        info.links = Links::NONE;
        match self.first(pool, info.key.gfn) {
            Some(first) => {
                let next = pool
                    .info(first)
                    .map_or(NONE, |info| info.links.frame[AFTER]);
                info.links.frame = [first, next];
                relink(pool, next, |links| links.frame[BEFORE] = pair);
                relink(pool, first, |links| links.frame[AFTER] = pair);
            }
            None => {
                let next = head.swap(pair, Ordering::Relaxed);
                info.links.bucket[AFTER] = next;
                relink(pool, next, |links| links.bucket[BEFORE] = pair);
            }
        }
        pool.describe(pair, info);
    }

    pub(super) fn remove(&mut self, pool: &mut Pool, pair: Pair) {
        let Some(info) = pool.info(pair).copied() else {
            return;
        };
        let Links { bucket, frame } = info.links;
        relink(pool, frame[BEFORE], |links| {
            links.frame[AFTER] = frame[AFTER]
        });
        relink(pool, frame[AFTER], |links| {
            links.frame[BEFORE] = frame[BEFORE]
        });
        if frame[BEFORE] != NONE {
            return;
        }
        // The first of its frame: the next one takes its place in the bucket.
        let heir = match frame[AFTER] {
            NONE => bucket[AFTER],
            next => {
                relink(pool, next, |links| links.bucket = bucket);
                next
            }
        };
        let back = if heir == bucket[AFTER] {
            bucket[BEFORE]
        } else {
            heir
        };
        relink(pool, bucket[AFTER], |links| links.bucket[BEFORE] = back);
        match bucket[BEFORE] {
            NONE => {
                if let Some(head) = self.head(info.key.gfn) {
                    head.store(heir, Ordering::Relaxed);
                }
            }
            before => relink(pool, before, |links| links.bucket[AFTER] = heir),
        }
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        for frame in &self.heads {
            self.frames.free_own(*frame, 1);
        }
    }
}

fn relink(pool: &mut Pool, pair: Pair, change: impl FnOnce(&mut Links)) {
    if let Some(info) = pool.info_mut(pair) {
        change(&mut info.links);
    }
}

/// SipHash-1-3 of one word (Aumasson and Bernstein): short, and of no use to whoever does not know
/// the key.
fn keyed_hash(key: [u64; 2], word: u64) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    for block in [word, 8 << 56] {
        v[3] ^= block;
        sip_round(&mut v);
        v[0] ^= block;
    }
    v[2] ^= 0xff;
    for _ in 0..3 {
        sip_round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn sip_round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shadow::cache::key::{Entries, Rights};
    use crate::testing::frames;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    fn info(gfn: u64, mode: u16) -> Info {
        let key = Key::new(Entries::Long, mode, gfn, 4, Rights::ALL);
        Info::new(key, Some(Mfn::new(1)))
    }

    #[test]
    fn the_hash_depends_on_its_key() {
        let hash = |key, word| keyed_hash(key, word) as usize % HEADS;
        let same = (0..1000).filter(|gfn| hash([1, 2], *gfn) == hash([1, 3], *gfn));
        assert!(same.count() < 10);
        // Neighbours, and frames that differ in their high bits only, are spread.
        for step in [1, 512, 1 << 20] {
            let mut seen = [0; HEADS];
            (0..HEADS as u64).for_each(|n| seen[hash([7, 9], n * step)] += 1);
            assert!(seen.iter().max() < Some(&10));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Against a map: what is in is found, and nothing else, whatever the order of insertions
        /// and removals.
        #[test]
        fn lists_hold_what_was_put_in(
            ops in prop::collection::vec((any::<bool>(), 0u64..40, 0u16..6), 1..300)
        ) {
            let frames = frames(0x1000);
            let owner = DomainId(5);
            let mut pool = Pool::new(frames, owner);
            pool.grow(1000, 1000).unwrap();
            let mut index = Index::new(frames, owner, [3, 4]).unwrap();
            let mut model = BTreeMap::new();
            for (put, gfn, mode) in ops {
                // Many frames in few buckets.
                let gfn = gfn * 3;
                let key = info(gfn, mode).key;
                prop_assert_eq!(index.find(&pool, &key), model.get(&(gfn, mode)).copied());
                match (put, model.remove(&(gfn, mode))) {
                    (true, None) => {
                        let pair = pool.take().unwrap();
                        index.insert(&mut pool, pair, info(gfn, mode));
                        model.insert((gfn, mode), pair);
                    }
                    (_, Some(pair)) => {
                        index.remove(&mut pool, pair);
                        pool.give(pair);
                    }
                    (false, None) => {}
                }
                let mut found: Vec<Pair> = Vec::new();
                let mut last = None;
                while let Some(pair) = index.next_of(&pool, gfn, last) {
                    found.push(pair);
                    last = Some(pair);
                }
                found.sort();
                let mut expected: Vec<Pair> =
                    model.iter().filter(|((of, _), _)| *of == gfn).map(|(_, pair)| *pair).collect();
                expected.sort();
                prop_assert_eq!(&found, &expected);
                prop_assert_eq!(index.count(&pool, gfn), expected.len());
            }
        }
    }
}
