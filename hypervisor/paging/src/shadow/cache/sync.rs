//! Guests' tables in and out of step with their shadows, and the shadows that go.

use core::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use oxen_mm::pt::{Decoded, Format, NoMemory, pages_at};

use super::pool::{Info, Pair};
use super::reverse::Place;
use super::{Allowance, BATCH, Cache, EVICT, Fmt, ShadowedGuest};

impl Cache {
    /// Follows the guest's flush, be it of a part: drops what the guest changed of the tables that
    /// it may write. The caller flushes the vcpu's TLB. False if that would take too long: then all
    /// has to be forgotten.
    #[must_use]
    pub(crate) fn resync(&mut self) -> bool {
        let mut left = Allowance::for_compare();
        let loose = self.loose.clone();
        loose.iter().all(|gfn| self.compare_all(*gfn, &mut left))
    }

    /// As [`Cache::resync`]; forgets all after `flush` if that would take too long.
    pub(crate) fn resync_or_forget(&mut self, flush: impl FnOnce()) {
        if !self.resync() {
            flush();
            self.reset();
        }
    }

    /// Compares all shadows of a table with it. False if there was not enough left of the
    /// allowance.
    pub(super) fn compare_all(&mut self, gfn: u64, left: &mut Allowance) -> bool {
        let mut last = None;
        while let Some(pair) = self.index.next_of(&self.pool, gfn, last) {
            if !left.spend(self.span(pair)) {
                return false;
            }
            self.compare(pair);
            last = Some(pair);
        }
        true
    }

    /// Entries of a shadow that are looked at when it is compared or goes.
    fn span(&self, pair: Pair) -> usize {
        let info = self.pool.info(pair);
        info.map_or(1, |info| usize::from(info.end.saturating_sub(info.low)) + 1)
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
        let (Some(shadow), Some(origin)) = (self.pool.table(pair), self.pool.origin(pair)) else {
            return;
        };
        self.counts.steps += u64::from(end.saturating_sub(low));
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
    pub(super) fn loosen(&mut self, gfn: u64, guest: &impl ShadowedGuest) -> Result<(), NoMemory> {
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
            self.tighten(guest)?;
        }
        self.loose.push(gfn);
        Ok(())
    }

    /// Protects the tables that have been loose for longest, but for those that nobody needs.
    fn tighten(&mut self, guest: &impl ShadowedGuest) -> Result<(), NoMemory> {
        let batch: ArrayVec<u64, BATCH> = self.loose.drain(..BATCH).collect();
        for gfn in &batch {
            self.drop_unused(*gfn);
            if self.index.next_of(&self.pool, *gfn, None).is_none() {
                continue;
            }
            self.cover(*gfn, guest)?;
            for large in [false, true] {
                for place in self.reverse.places(&self.pool, *gfn, large) {
                    self.drop_writer(place, *gfn);
                }
            }
            self.reverse.protect(&self.pool, *gfn, true);
            self.counts.protected += 1;
        }
        // What a TLB still let through is seen by the comparison.
        self.flush(guest);
        let mut left = Allowance::for_compare();
        let compared = batch.iter().all(|gfn| self.compare_all(*gfn, &mut left));
        compared.then_some(()).ok_or(NoMemory)
    }

    /// Tables that nothing links to, of a frame that is written, are most likely no tables any
    /// more. Roots of processes that wait are, mostly.
    fn drop_unused(&mut self, gfn: u64) {
        let mut next = self.index.next_of(&self.pool, gfn, None);
        while let Some(pair) = next {
            next = self.index.next_of(&self.pool, gfn, Some(pair));
            let unused = self
                .pool
                .info(pair)
                .is_some_and(|info| info.idle && (info.key.level < 4 || info.strays > 2));
            if unused {
                self.evict(pair);
            }
        }
    }

    /// Is a place an entry of a page still, and may it write? By the guest's number of the page, as
    /// its frame may be another by now. If it cannot be told, it is.
    fn holds(&self, place: Place, gfn: u64) -> Option<bool> {
        let key = &self.pool.info(place.pair)?.key;
        let (level, slot) = (u32::from(key.level), usize::from(place.slot));
        let entry = self.pool.entry(place.pair, slot)?;
        let Decoded::Leaf(_, attrs) = Fmt::decode(entry.load(Ordering::Relaxed), level) else {
            return None;
        };
        let origin = self.pool.origin_of(place.pair, slot)?;
        let first = key.page_of(slot, origin.load(Ordering::Relaxed));
        let all = first.map(|first| first..first + pages_at(level));
        all.is_none_or(|all| all.contains(&gfn))
            .then_some(attrs.write)
    }

    /// An entry that may write a page is taken out, if it still is one.
    fn drop_writer(&mut self, place: Option<Place>, gfn: u64) {
        if let Some(place) = place
            && self.holds(place, gfn) == Some(true)
        {
            self.set(place.pair, place.slot.into(), 0);
        }
    }

    /// Notes that an entry holds a page. One that may write is always found again; for that another
    /// may have to go.
    pub(super) fn note(&mut self, gfn: u64, place: Place, large: bool, write: bool) {
        let noted = self.reverse.places(&self.pool, gfn, large);
        if noted.contains(&Some(place)) {
            return;
        }
        let [newer, older] = noted.map(|old| old.and_then(|old| self.holds(old, gfn)));
        let gone = match (newer, older) {
            (_, None) => 1,
            (None, _) => 0,
            _ if !write => return self.reverse.note_others(&self.pool, gfn, large),
            (_, Some(false)) => 1,
            (Some(false), _) => 0,
            _ => 1,
        };
        if [newer, older][gone] == Some(false) {
            self.reverse.note_others(&self.pool, gfn, large);
        }
        self.drop_writer(noted[gone], gfn);
        let places = [Some(place), noted[1 - gone]];
        self.reverse.note(&self.pool, gfn, large, places);
    }

    /// The p2m's entry of a page changed: what was made from the old one goes. False if it is not
    /// known where that is, or if too much would have to go: then all has to be forgotten. The
    /// caller flushes the TLBs of all vcpus before they enter again.
    #[must_use]
    pub(crate) fn page_changed(&mut self, gfn: u64, left: &mut Allowance) -> bool {
        if self.reverse.has_others(&self.pool, gfn) || !left.spend(1) {
            return false;
        }
        let mut next = self.index.next_of(&self.pool, gfn, None);
        while let Some(pair) = next {
            next = self.index.next_of(&self.pool, gfn, Some(pair));
            let in_use = self.pool.info(pair).is_some_and(|info| !info.idle);
            if in_use || !left.spend(self.span(pair)) {
                return false;
            }
            self.evict(pair);
        }
        for large in [false, true] {
            let places = self.reverse.places(&self.pool, gfn, large);
            for place in places.into_iter().flatten() {
                self.set(place.pair, place.slot.into(), 0);
            }
        }
        self.counts.changed += 1;
        true
    }

    /// Makes the reverse map cover a page.
    pub(super) fn cover(&mut self, gfn: u64, guest: &impl ShadowedGuest) -> Result<(), NoMemory> {
        if self.reverse.covers(gfn) {
            return Ok(());
        }
        let pair = self.take(guest)?;
        self.reverse
            .add_part(gfn, pair)
            .inspect_err(|_| self.pool.give(pair))
    }

    /// A zeroed pair; room is made for it.
    pub(super) fn take(&mut self, guest: &impl ShadowedGuest) -> Result<Pair, NoMemory> {
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
            self.flush(guest);
        }
        self.pool.take()
    }

    pub(super) fn flush(&mut self, guest: &impl ShadowedGuest) {
        guest.flush();
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
            self.counts.steps += u64::from(info.end.saturating_sub(info.low));
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
