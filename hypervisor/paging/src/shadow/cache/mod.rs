//! A domain's cache of shadows, found by the guest's tables that they stand for, and shared by its
//! vcpus.
//!
//! A shadow keeps to a TLB's rules (APM volume 2, 5.5; SDM volume 3, 4.10): faults make its entries
//! on demand, and the guest's tables may be ahead of it until the guest flushes. A shadow outlasts
//! the flush, because the cache knows what the guest changed:
//! - The table of a new shadow is *loose*: whoever may write it does. Few tables are loose at once.
//!   At each flush their entries are compared with those that the shadows were made from, and what
//!   differs is dropped.
//! - When too many are loose, the oldest are *protected*: all entries that may write them are taken
//!   out of the shadows, all TLBs are flushed, and the tables are compared once more. From then on
//!   a write faults, and makes the table loose again. So no write is emulated, at any level.
//!
//! All shadows live in a pool of a fixed size. The cache knows of two entries at most that hold a
//! page (`reverse`). When the pool is used up, the shadows that nothing links to go, oldest first;
//! when there are none, all are forgotten. Each of these takes a bounded time; to forget all takes
//! hardly any.
//!
//! A change of the p2m takes out what was made from its old entry ([`Cache::page_changed`]), or
//! forgets all ([`Cache::reset`]), before any vcpu enters the guest again. A frame of the guest's
//! that the cache reads may have been given away meanwhile: the bytes are only compared.
//!
//! Locks: the cache's owner locks it as a whole; the p2m's lock may be taken inside.

mod allowance;
mod fill;
mod index;
mod key;
#[cfg(test)]
mod look;
mod path;
mod pool;
mod reverse;
mod sync;
#[cfg(test)]
pub(crate) mod tests;
mod view;

use arrayvec::ArrayVec;
use oxen_mm::FrameTable;
use oxen_mm::pt;
use oxen_types::{DomainId, Mfn};

pub(crate) use allowance::Allowance;
use index::Index;
use path::root;
use pool::Pool;
use reverse::Reverse;
pub(crate) use view::View;

use super::Counts;

/// Guests' tables that may be loose at once.
const LOOSE: usize = 16;
/// Tables that are protected together.
const BATCH: usize = 8;
/// Shadows that go together when the pool is used up.
const EVICT: usize = 16;
/// Pairs of pages that are taken from the machine, or go back to it, in one step.
const STEP: usize = 1024;
/// The least pages of a pool: room for a root, a way down, and the reverse map of what it reads and
/// writes.
const FEWEST_PAGES: usize = 32;

type Fmt = pt::Shadow;

/// The guest whose tables the cache shadows.
pub(crate) trait ShadowedGuest {
    /// The frame of a page of the guest's RAM; `None` if there is no RAM.
    fn frame(&self, gfn: u64) -> Option<Mfn>;
    /// Makes all vcpus leave the guest, and their TLBs forget it before they enter again.
    fn flush(&self);
}

/// The shadows of one domain.
pub(crate) struct Cache {
    pool: Pool,
    index: Index,
    reverse: Reverse,
    /// Guest frames that hold tables and may be written, oldest first.
    loose: ArrayVec<u64, LOOSE>,
    /// How many times all was forgotten.
    epoch: u64,
    counts: Counts,
}

/// The slot of a linear page (address / 4096) in a table of this level.
fn slot_at(linear: u64, level: u8) -> usize {
    (linear / pt::pages_at(level.into())) as usize % 512
}

impl Cache {
    /// A cache with a pool of `pages`; `None` if the machine has not so many. `secret` is random,
    /// and known to no guest: who knows it can make shadows slow to find.
    pub(crate) fn new(
        frames: &'static FrameTable,
        owner: DomainId,
        pages: usize,
        secret: [u64; 2],
    ) -> Option<Self> {
        let mut pool = Pool::new(frames, owner);
        let pages = pages.max(FEWEST_PAGES);
        pool.grow(pages, pages).ok()?;
        Some(Self {
            pool,
            index: Index::new(frames, owner, secret)?,
            reverse: Reverse::default(),
            loose: ArrayVec::new(),
            epoch: 0,
            counts: Counts::default(),
        })
    }

    /// The cache's work so far.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            steps: self.counts.steps + self.index.steps(),
            ..self.counts
        }
    }

    /// The pool's pages, all of which are taken from the machine.
    pub(crate) fn pages(&self) -> usize {
        self.pool.pages()
    }

    /// Brings the pool's size nearer to `pages`, by a step. True if the size is reached. Pages
    /// beyond the size go back to the machine, after `flush` and with all shadows.
    ///
    /// # Errors
    /// `NoMem` if there is not enough free memory.
    pub(crate) fn resize(
        &mut self,
        pages: usize,
        flush: impl FnOnce(),
    ) -> oxen_types::Result<bool> {
        let pages = pages.max(FEWEST_PAGES);
        if self.pool.pages() <= pages {
            return self.pool.grow(pages, STEP);
        }
        flush();
        self.reset();
        Ok(self.pool.shrink(pages, STEP))
    }

    /// Forgets everything; the pages are used anew at once. The caller has made all vcpus leave the
    /// guest, and flushes their TLBs before they enter again; each has to take a new root.
    pub(crate) fn reset(&mut self) {
        self.epoch += 1;
        self.counts.resets += 1;
        self.index.clear();
        self.reverse.clear();
        self.loose.clear();
        self.pool.clear();
    }

    fn forget(&mut self, guest: &impl ShadowedGuest) {
        guest.flush();
        self.reset();
    }
}
