//! A contiguous range of frames that is set aside at boot for the heap's objects of more than a
//! page.
//!
//! First fit, a bit for each frame. Objects of several pages are made by the toolstack's calls and
//! at boot only, so there are few of them, and the search is bounded by the size of the map.

use oxen_core::seams::FrameSource;
use oxen_types::{DomainId, Mfn};

use crate::frames::{AllocOptions, FrameTable};

/// 1 MiB at most.
const MOST_ORDER: u32 = 8;
const WORDS: usize = (1 << MOST_ORDER) / 64;

pub(super) struct Contiguous {
    start: u64,
    len: u64,
    used: [u64; WORDS],
}

/// How many frames are set aside: 1 in 256.
pub(super) fn pages(frames: &FrameTable) -> u64 {
    let part = frames.stats().total_frames / 256;
    1 << part.max(1).ilog2().min(MOST_ORDER)
}

impl Contiguous {
    pub(super) const fn new() -> Self {
        Self {
            start: 0,
            len: 0,
            used: [0; WORDS],
        }
    }

    pub(super) fn init(&mut self, frames: &FrameTable) {
        let order = pages(frames).ilog2();
        if let Some(at) = frames.alloc_own(order, DomainId::XEN, AllocOptions::default()) {
            (self.start, self.len) = (at.raw(), 1 << order);
        }
    }

    /// `count` frames that begin at a multiple of `align`, a power of two.
    pub(super) fn take(&mut self, count: u64, align: u64) -> Option<Mfn> {
        let mut at = self.start.next_multiple_of(align);
        let end = self.start + self.len;
        while at.checked_add(count)? <= end {
            match (at..at + count).rev().find(|page| self.is_used(*page)) {
                Some(used) => at = (used + 1).next_multiple_of(align),
                None => {
                    (at..at + count).for_each(|page| self.flip(page));
                    return Some(Mfn::new(at));
                }
            }
        }
        None
    }

    /// False if the frames are not of this range.
    pub(super) fn give(&mut self, at: Mfn, count: u64) -> bool {
        let ours = (self.start..self.start + self.len).contains(&at.raw());
        if ours {
            for page in at.raw()..at.raw() + count {
                assert!(
                    self.is_used(page),
                    "freed to the heap what it does not hold"
                );
                self.flip(page);
            }
        }
        ours
    }

    fn bit(&self, page: u64) -> (usize, u64) {
        let n = page - self.start;
        ((n / 64) as usize % WORDS, 1 << (n % 64))
    }

    fn is_used(&self, page: u64) -> bool {
        let (word, bit) = self.bit(page);
        self.used[word] & bit != 0
    }

    fn flip(&mut self, page: u64) {
        let (word, bit) = self.bit(page);
        self.used[word] ^= bit;
    }
}
