//! Pages put into shadows, and the shadows on the way.

use core::sync::atomic::Ordering;

use oxen_mm::pt::{Attrs, Format, NoMemory, pages_at};
use oxen_types::Mfn;

use super::index::MOST_SHAPES;
use super::key::{Entries, Key};
use super::path::{Hop, Path, path};
use super::pool::{Info, NONE, Pair};
use super::reverse::Place;
use super::{Cache, Fmt, ShadowedGuest, View, slot_at};
use crate::shadow::fault::Fill;
use crate::walk::Paging;

impl Cache {
    /// Puts a page where the walk of the guest's tables found it. False if all had to be forgotten:
    /// then the vcpu has to take its root again.
    pub(crate) fn fill(
        &mut self,
        view: &mut View,
        paging: &Paging,
        fill: &Fill,
        guest: &impl ShadowedGuest,
    ) -> bool {
        if self.is_stale(view) {
            return false;
        }
        self.counts.fills += 1;
        // A large page that may be written must not hold a protected table.
        let large = !fill.page.write || self.reverse.may_write_large(fill.gfn.raw());
        let path = path(paging, fill, large);
        let done = self.try_fill(view, &path, fill, guest).is_ok();
        if !done {
            self.forget(guest);
        }
        done
    }

    fn try_fill(
        &mut self,
        view: &mut View,
        path: &Path,
        fill: &Fill,
        guest: &impl ShadowedGuest,
    ) -> Result<(), NoMemory> {
        let mut hops = path.hops.iter();
        let mut at = if view.long {
            view.roots[0]
        } else {
            let Some(hop) = hops.next() else {
                return Ok(());
            };
            self.low_root(view, fill.linear, hop, guest)?
        };
        if at == NONE {
            return Err(NoMemory);
        }
        self.pool.hold(at);
        for hop in hops {
            let next = self.link(at, fill.linear, hop, guest);
            self.pool.release(at);
            at = next?;
        }
        let filled = self.put(at, path, fill, guest);
        self.pool.release(at);
        filled
    }

    /// One of the four tables that a root of three levels links to.
    fn low_root(
        &mut self,
        view: &mut View,
        linear: u64,
        hop: &Hop,
        guest: &impl ShadowedGuest,
    ) -> Result<Pair, NoMemory> {
        let quarter = slot_at(linear, 3) % 4;
        let now = view.roots[quarter];
        if self.pool.info(now).is_some_and(|info| info.key == hop.key) {
            return Ok(now);
        }
        let new = self.get(&hop.key, guest)?;
        self.pool.hold(new);
        view.roots[quarter] = new;
        if now != NONE {
            self.pool.release(now);
        }
        view.link_pae(&self.pool);
        Ok(new)
    }

    /// The next table on the way, held.
    fn link(
        &mut self,
        at: Pair,
        linear: u64,
        hop: &Hop,
        guest: &impl ShadowedGuest,
    ) -> Result<Pair, NoMemory> {
        let Some(level) = self.pool.info(at).map(|info| info.key.level) else {
            return Err(NoMemory);
        };
        let slot = slot_at(linear, level);
        let next = self.get(&hop.key, guest)?;
        // Held for the way, and for the link.
        self.pool.hold(next);
        let entry = self.pool.mfn(next).map_or(0, Fmt::table);
        let now = self.pool.entry(at, slot);
        if now.is_some_and(|now| now.load(Ordering::Relaxed) != entry) {
            self.pool.hold(next);
            self.set(at, slot, entry);
        }
        self.set_origin(at, slot, hop.entry);
        Ok(next)
    }

    /// The page's own entry.
    fn put(
        &mut self,
        at: Pair,
        path: &Path,
        fill: &Fill,
        guest: &impl ShadowedGuest,
    ) -> Result<(), NoMemory> {
        let Some(level) = self.pool.info(at).map(|info| info.key.level) else {
            return Err(NoMemory);
        };
        let slot = slot_at(fill.linear, level);
        let place = Place {
            pair: at,
            slot: slot as u16,
        };
        let gfn = fill.gfn.raw();
        let mut may_write = fill.page.write;
        if fill.page.cached {
            self.cover(gfn, guest)?;
        }
        if may_write && fill.page.cached {
            if level == 1 && self.reverse.is_protected(&self.pool, gfn) {
                may_write = fill.for_write;
                if fill.for_write {
                    self.loosen(gfn, guest)?;
                }
            }
            // It was found to be allowed on the way; a table may have been protected since.
            may_write &= level == 1 || self.reverse.may_write_large(gfn);
        }
        let flag = |on, bit| if on { bit } else { 0 };
        let attrs = Attrs {
            write: may_write,
            exec: fill.page.exec,
            cached: fill.page.cached,
            fixed: false,
            tag: flag(fill.user, Fmt::USER) | flag(fill.global, Fmt::GLOBAL),
        };
        let first = fill.page.mfn.raw() & !(pages_at(level.into()) - 1);
        let leaf = Fmt::leaf(Mfn::new(first), level.into(), attrs);
        self.set(at, slot, leaf);
        self.set_origin(at, slot, path.entry);
        if fill.page.cached {
            self.note(gfn, place, level > 1, may_write);
        }
        Ok(())
    }

    fn set_origin(&self, pair: Pair, slot: usize, entry: u64) {
        if let Some(origin) = self.pool.origin_of(pair, slot) {
            origin.store(entry, Ordering::Relaxed);
        }
    }

    /// Prepares for the guest's write to a page, in whatever way it writes: a protected table
    /// becomes loose. False if all had to be forgotten.
    #[cfg(test)]
    pub(crate) fn write_faults(&mut self, gfn: u64, guest: &impl ShadowedGuest) -> bool {
        if !self.reverse.is_protected(&self.pool, gfn) {
            return true;
        }
        let done = self.loosen(gfn, guest).is_ok();
        if !done {
            self.forget(guest);
        }
        done
    }

    /// Writes an entry, and lets go of what the old one linked to.
    pub(super) fn set(&mut self, pair: Pair, slot: usize, new: u64) {
        let Some(info) = self.pool.info_mut(pair) else {
            return;
        };
        if new != 0 {
            info.low = info.low.min(slot as u16);
            info.end = info.end.max(slot as u16 + 1);
        }
        let level = info.key.level;
        let Some(entry) = self.pool.entry(pair, slot) else {
            return;
        };
        let old = entry.swap(new, Ordering::AcqRel);
        if level > 1
            && let Some(table) = Fmt::next(old, level.into())
            && let Some(child) = self.pool.number(table)
        {
            self.pool.release(child);
        }
    }

    /// The shadow of a key, which the caller holds next.
    pub(super) fn get(&mut self, key: &Key, guest: &impl ShadowedGuest) -> Result<Pair, NoMemory> {
        if let Some(pair) = self.index.find(&self.pool, key) {
            return Ok(pair);
        }
        let table = match key.entries {
            Entries::Direct => None,
            _ => guest.frame(key.gfn),
        };
        let pair = self.take(guest)?;
        self.counts.made += 1;
        self.index
            .insert(&mut self.pool, pair, Info::new(*key, table));
        if self.index.count(&self.pool, key.gfn) > MOST_SHAPES {
            return Err(NoMemory);
        }
        if table.is_some() && !self.reverse.is_protected(&self.pool, key.gfn) {
            // Held, so that it is not taken for one that nobody needs.
            self.pool.hold(pair);
            let done = self.loosen(key.gfn, guest);
            if let Some(info) = self.pool.info_mut(pair) {
                info.refs -= 1;
            }
            done?;
        }
        Ok(pair)
    }
}
