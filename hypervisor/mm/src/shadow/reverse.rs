//! Which entries of shadows may write a guest's page: two at most, so that they are found, and taken away,
//! in a bounded time. A third takes the place of one of them, whose user then faults again.
//!
//! A part covers 1024 pages: a pair of the pool's, with a word for each page.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use super::pool::{Pair, Pool};
use crate::pt::NoMemory;

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

/// Of a word: two places with a bit each that says they are there, and whether the page is protected.
const HALF: u32 = 31;
const PLACE: u64 = (1 << 30) - 1;
const THERE: u64 = 1 << 30;
const PROTECTED: u64 = 1 << 63;

struct Part {
    number: u64,
    pair: Pair,
    /// Entries of 2 MiB that may write.
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
        Some(match at / 512 {
            0 => &pool.table(part.pair)[at],
            _ => &pool.origin(part.pair)[at % 512],
        })
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

    /// May a page of 2 MiB be writable as a whole?
    pub(super) fn may_write_large(&self, gfn: u64) -> bool {
        let part = self.part(gfn);
        part.is_none_or(|part| part.protected[(gfn % PART / LARGE) as usize] == 0)
    }

    /// Notes that an entry may write the page; which one has to go for that.
    pub(super) fn note(&mut self, pool: &Pool, gfn: u64, place: Place) -> Option<Place> {
        let word = self.word(pool, gfn)?;
        let (new, gone) = add(word.load(Ordering::Relaxed), place);
        word.store(new, Ordering::Relaxed);
        gone
    }

    /// The same of a page of 2 MiB.
    pub(super) fn note_large(&mut self, gfn: u64, place: Place) -> Option<Place> {
        let part = self.part_mut(gfn)?;
        let word = &mut part.large[(gfn % PART / LARGE) as usize];
        let (new, gone) = add(*word, place);
        *word = new;
        gone
    }

    /// The entries that may write a page, or did once; they are no longer noted.
    pub(super) fn take(&mut self, pool: &Pool, gfn: u64) -> [Option<Place>; 4] {
        let small = self
            .word(pool, gfn)
            .map_or(0, |word| word.fetch_and(PROTECTED, Ordering::Relaxed));
        let large = self.part_mut(gfn).map_or(0, |part| {
            core::mem::take(&mut part.large[(gfn % PART / LARGE) as usize])
        });
        [
            half(small, 0),
            half(small, 1),
            half(large, 0),
            half(large, 1),
        ]
    }
}

fn half(word: u64, n: u32) -> Option<Place> {
    let bits = word >> (n * HALF);
    (bits & THERE != 0).then(|| Place::unpack(bits & PLACE))
}

/// The newer of the two stands first.
fn add(word: u64, place: Place) -> (u64, Option<Place>) {
    let flags = word & PROTECTED;
    let first = place.pack() & PLACE | THERE;
    let old = [half(word, 0), half(word, 1)];
    if old[0] == Some(place) {
        return (word, None);
    }
    let second = old[0].map_or(0, |old| (old.pack() & PLACE | THERE) << HALF);
    let gone = old[1].filter(|gone| *gone != place);
    (flags | first | second, gone)
}
