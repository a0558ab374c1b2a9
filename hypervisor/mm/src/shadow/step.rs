//! Guests' tables in and out of step with their shadows, and the shadows that go.

use core::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use oxen_types::Mfn;

use super::pool::{Info, Pair};
use super::reverse::Place;
use super::{Around, BATCH, Cache, EVICT, Fmt};
use crate::pt::{Decoded, Format, NoMemory, pages_at};

impl Cache {
    pub(super) fn compare_all(&mut self, gfn: u64) {
        let mut last = None;
        while let Some(pair) = self.index.next_of(&self.pool, gfn, last) {
            self.compare(pair);
            last = Some(pair);
        }
    }

    fn compare(&mut self, pair: Pair) {
        let Some(Info {
            key,
            guest: Some(guest),
            low,
            end,
            ..
        }) = self.pool.info(pair).copied()
        else {
            return;
        };
        let guest = self.pool.guest_table(guest);
        let (shadow, origin) = (self.pool.table(pair), self.pool.origin(pair));
        for slot in usize::from(low)..usize::from(end) {
            let (Some(entry), Some(origin)) = (shadow.get(slot), origin.get(slot)) else {
                break;
            };
            if entry.load(Ordering::Relaxed) != 0
                && origin.load(Ordering::Relaxed) != key.entry_of(guest, slot)
            {
                self.set(pair, slot, 0);
                self.counts.dropped += 1;
            }
        }
    }

    /// The table may be written from now on.
    pub(super) fn loosen(&mut self, gfn: u64, around: &impl Around) -> Result<(), NoMemory> {
        if self.loose.contains(&gfn) {
            return Ok(());
        }
        if self.reverse.is_protected(&self.pool, gfn) {
            self.counts.loosened += 1;
            self.reverse.protect(&self.pool, gfn, false);
            let first = self.index.next_of(&self.pool, gfn, None);
            if let Some(info) = first.and_then(|pair| self.pool.info_mut(pair)) {
                info.strays = if info.refs == 0 {
                    info.strays.saturating_add(1)
                } else {
                    0
                };
            }
        }
        if self.loose.is_full() {
            self.tighten(around)?;
        }
        self.loose.push(gfn);
        Ok(())
    }

    /// Protects the tables that have been loose for longest, but for those that nobody needs.
    fn tighten(&mut self, around: &impl Around) -> Result<(), NoMemory> {
        let batch: ArrayVec<u64, BATCH> = self.loose.drain(..BATCH).collect();
        for gfn in &batch {
            self.drop_unused(*gfn);
            let Some(first) = self.index.next_of(&self.pool, *gfn, None) else {
                continue;
            };
            let Some(mfn) = self.pool.info(first).and_then(|info| info.guest) else {
                continue;
            };
            self.cover(*gfn, around)?;
            for place in self.reverse.take(&self.pool, *gfn).into_iter().flatten() {
                self.drop_writer(place, mfn);
            }
            self.reverse.protect(&self.pool, *gfn, true);
            self.counts.protected += 1;
        }
        // What a TLB still let through is seen by the comparison.
        self.flush(around);
        for gfn in batch {
            self.compare_all(gfn);
        }
        Ok(())
    }

    /// Tables that nothing links to, of a frame that is written, are most likely no tables any more. Roots
    /// of processes that wait are, mostly.
    fn drop_unused(&mut self, gfn: u64) {
        let mut last = None;
        while let Some(pair) = self.index.next_of(&self.pool, gfn, last) {
            let unused = self
                .pool
                .info(pair)
                .is_some_and(|info| info.idle && (info.key.level < 4 || info.strays > 2));
            if unused {
                self.evict(pair);
                last = None;
            } else {
                last = Some(pair);
            }
        }
    }

    /// An entry that may write a frame is taken out, if it still is one.
    pub(super) fn drop_writer(&mut self, place: Place, mfn: Mfn) {
        let Some(level) = self.pool.info(place.pair).map(|info| info.key.level) else {
            return;
        };
        let slot = usize::from(place.slot);
        let entry = self.pool.table(place.pair)[slot].load(Ordering::Relaxed);
        let level = u32::from(level);
        if let Decoded::Leaf(first, attrs) = Fmt::decode(entry, level)
            && attrs.write
            && (first.raw()..first.raw() + pages_at(level)).contains(&mfn.raw())
        {
            self.set(place.pair, slot, 0);
        }
    }

    /// Makes the reverse map cover a page.
    pub(super) fn cover(&mut self, gfn: u64, around: &impl Around) -> Result<(), NoMemory> {
        if self.reverse.covers(gfn) {
            return Ok(());
        }
        let pair = self.take(around)?;
        self.reverse
            .add_part(gfn, pair)
            .inspect_err(|_| self.pool.give(pair))
    }

    /// A zeroed pair; room is made for it.
    pub(super) fn take(&mut self, around: &impl Around) -> Result<Pair, NoMemory> {
        if let Ok(pair) = self.pool.take() {
            return Ok(pair);
        }
        for _ in 0..EVICT {
            let Some(oldest) = self.pool.oldest() else {
                break;
            };
            self.evict(oldest);
        }
        if self.pool.has_limbo() {
            self.flush(around);
        }
        self.pool.take()
    }

    pub(super) fn flush(&mut self, around: &impl Around) {
        around.flush();
        self.pool.flushed();
    }

    /// A shadow that nothing links to goes.
    fn evict(&mut self, pair: Pair) {
        let Some(info) = self.pool.info(pair).copied() else {
            return;
        };
        if info.idle {
            self.pool.unlist(pair);
        }
        if info.key.level > 1 {
            for slot in info.low..info.end {
                self.set(pair, slot.into(), 0);
            }
        }
        self.index.remove(&mut self.pool, pair);
        self.pool.give(pair);
        self.counts.evicted += 1;
        let gfn = info.key.gfn;
        if info.guest.is_some() && self.index.next_of(&self.pool, gfn, None).is_none() {
            self.reverse.protect(&self.pool, gfn, false);
        }
    }
}
