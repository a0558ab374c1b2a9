//! Which entries of shadows hold a guest's page, so that they are found in a bounded time: two at
//! most are noted, and all that may write are. A third that may write takes the place of one of
//! them, whose user then faults again; of those that only read the rest is known to be there
//! (*others*), not where.
//!
//! A note may be out of date: its entry holds something else by now. To take such an entry away
//! does no harm.
//!
//! A part covers 1024 pages: a pair of the pool's, with a word for each page.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use super::pool::{Pair, Pool};
use oxen_mm::pt::NoMemory;

/// Pages of a part: two of 2 MiB.
pub(super) const PART: u64 = 1024;
const LARGE: u64 = 512;

/// An entry of a shadow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) pair: Pair,
    pub(super) slot: u16,
}

impl Place {
    fn pack(self) -> u64 {
        u64::from(self.pair) << 9 | u64::from(self.slot)
    }
    fn unpack(bits: u64) -> Self {
        Self {
            pair: (bits >> 9) as Pair,
            slot: (bits & 511) as u16,
        }
    }
}

/// Of a word: two places with a bit each that says they are there, whether there are others, and
/// whether the page is protected.
const HALF: u32 = 31;
const PLACE: u64 = (1 << 30) - 1;
const THERE: u64 = 1 << 30;
const OTHERS: u64 = 1 << 62;
const PROTECTED: u64 = 1 << 63;

struct Part {
    number: u64,
    pair: Pair,
    /// Entries of 2 MiB, noted alike.
    large: [u64; 2],
    /// Protected pages.
    protected: [u32; 2],
}

#[derive(Default)]
pub(super) struct Reverse {
    parts: Vec<Part>,
}

impl Reverse {
    pub(super) fn clear(&mut self) {
        self.parts.clear();
    }

    fn part(&self, gfn: u64) -> Option<&Part> {
        let at = self
            .parts
            .binary_search_by_key(&(gfn / PART), |part| part.number);
        self.parts.get(at.ok()?)
    }

    fn part_mut(&mut self, gfn: u64) -> Option<&mut Part> {
        let at = self
            .parts
            .binary_search_by_key(&(gfn / PART), |part| part.number);
        self.parts.get_mut(at.ok()?)
    }

    pub(super) fn covers(&self, gfn: u64) -> bool {
        self.part(gfn).is_some()
    }

    pub(super) fn add_part(&mut self, gfn: u64, pair: Pair) -> Result<(), NoMemory> {
        self.parts.try_reserve(1).map_err(|_| NoMemory)?;
        let number = gfn / PART;
        let at = self.parts.partition_point(|part| part.number < number);
        let part = Part {
            number,
            pair,
            large: [0; 2],
            protected: [0; 2],
        };
        self.parts.insert(at, part);
        Ok(())
    }

    fn word(&self, pool: &Pool, gfn: u64) -> Option<&'static AtomicU64> {
        let part = self.part(gfn)?;
        let at = (gfn % PART) as usize;
        match at / 512 {
            0 => pool.entry(part.pair, at),
            _ => pool.origin_of(part.pair, at % 512),
        }
    }

    pub(super) fn is_protected(&self, pool: &Pool, gfn: u64) -> bool {
        let word = self.word(pool, gfn);
        word.is_some_and(|word| word.load(Ordering::Relaxed) & PROTECTED != 0)
    }

    pub(super) fn protect(&mut self, pool: &Pool, gfn: u64, on: bool) {
        let Some(word) = self.word(pool, gfn) else {
            return;
        };
        let old = word.load(Ordering::Relaxed);
        if (old & PROTECTED != 0) == on {
            return;
        }
        word.store(old ^ PROTECTED, Ordering::Relaxed);
        if let Some(part) = self.part_mut(gfn) {
            let count = &mut part.protected[(gfn % PART / LARGE) as usize];
            *count = if on {
                *count + 1
            } else {
                count.saturating_sub(1)
            };
        }
    }

    /// Whether a page of 2 MiB may be writable as a whole.
    pub(super) fn may_write_large(&self, gfn: u64) -> bool {
        let part = self.part(gfn);
        part.is_none_or(|part| part.protected[(gfn % PART / LARGE) as usize] == 0)
    }

    fn bits(&self, pool: &Pool, gfn: u64, large: bool) -> u64 {
        if large {
            let part = self.part(gfn);
            return part.map_or(0, |part| part.large[(gfn % PART / LARGE) as usize]);
        }
        let word = self.word(pool, gfn);
        word.map_or(0, |word| word.load(Ordering::Relaxed))
    }

    fn set_bits(&mut self, pool: &Pool, gfn: u64, large: bool, bits: u64) {
        if large {
            if let Some(part) = self.part_mut(gfn) {
                part.large[(gfn % PART / LARGE) as usize] = bits;
            }
        } else if let Some(word) = self.word(pool, gfn) {
            word.store(bits, Ordering::Relaxed);
        }
    }

    /// The noted entries that hold the page, or did once, as one of 4 KiB or of 2 MiB; the newest
    /// first.
    pub(super) fn places(&self, pool: &Pool, gfn: u64, large: bool) -> [Option<Place>; 2] {
        let bits = self.bits(pool, gfn, large);
        [half(bits, 0), half(bits, 1)]
    }

    pub(super) fn note(&mut self, pool: &Pool, gfn: u64, large: bool, places: [Option<Place>; 2]) {
        let flags = self.bits(pool, gfn, large) & (PROTECTED | OTHERS);
        let pack = |place: Option<Place>| place.map_or(0, |place| place.pack() & PLACE | THERE);
        let [first, second] = places.map(pack);
        self.set_bits(pool, gfn, large, flags | first | second << HALF);
    }

    /// There are more entries that hold the page, and read only.
    pub(super) fn note_others(&mut self, pool: &Pool, gfn: u64, large: bool) {
        let bits = self.bits(pool, gfn, large);
        self.set_bits(pool, gfn, large, bits | OTHERS);
    }

    pub(super) fn has_others(&self, pool: &Pool, gfn: u64) -> bool {
        let both = self.bits(pool, gfn, false) | self.bits(pool, gfn, true);
        both & OTHERS != 0
    }
}

fn half(word: u64, n: u32) -> Option<Place> {
    let bits = word >> (n * HALF);
    (bits & THERE != 0).then(|| Place::unpack(bits & PLACE))
}
