//! The domain's own RAM: populate, release, move, and taking all away at the end.

use core::sync::atomic::Ordering;

use oxen_core::seams::MapKind;
use oxen_types::{Errno, Gfn, Mfn, Result};

use super::GuestSpace;
use super::gather::{BATCH, Gather};
use super::kind::kind_of;
use crate::frames::MAX_ORDER;
use crate::pt::{Attrs, Format, Leaf, MapError, Walk, pages_at};

/// The largest block that is zeroed and mapped in one go: 2 MiB, one leaf.
const LARGE_ORDER: u32 = 9;

impl<F: Format> GuestSpace<F> {
    /// Orders above 9 take long (1 GiB is zeroed at 18): for boot time only.
    pub(super) fn populate_with(&self, gfn: Gfn, order: u32, zeroed: bool) -> Result<()> {
        if order > MAX_ORDER || !gfn.is_aligned(order) {
            return Err(Errno::Inval);
        }
        let count = 1 << order;
        self.check(gfn, count)?;
        self.check_absent(gfn, count)?;
        let held = self.frames.ram_of(self.owner);
        if held.saturating_add(count) > self.max_frames.load(Ordering::Relaxed) {
            return Err(Errno::NoMem);
        }
        self.fill(gfn, order, zeroed)?;
        self.note_top(gfn.raw() + count - 1);
        Ok(())
    }

    /// Backs a block in one piece, or, where there is none of that size, each half.
    fn fill(&self, gfn: Gfn, order: u32, zeroed: bool) -> Result<()> {
        if order <= LARGE_ORDER
            && let Some(mfn) = self.take_frames(gfn, order, zeroed)?
        {
            return self.install(gfn, mfn, order);
        }
        let Some(half) = order.checked_sub(1) else {
            return Err(Errno::NoMem);
        };
        let upper = Gfn::new(gfn.raw() + (1 << half));
        self.fill(gfn, half, zeroed)?;
        self.fill(upper, half, zeroed).inspect_err(|_| {
            self.remove_ram(gfn, 1 << half);
        })
    }

    /// Frames for a block, charged to the domain: none if there is no such block.
    fn take_frames(&self, gfn: Gfn, order: u32, zeroed: bool) -> Result<Option<Mfn>> {
        let max = self.max_frames.load(Ordering::Relaxed);
        if !self.frames.charge(self.owner, 1 << order, max) {
            return Err(Errno::NoMem);
        }
        let taken = if self.identity {
            let mfn = Mfn::new(gfn.raw());
            self.frames
                .take_identity(mfn, order, self.owner, zeroed)
                .then_some(mfn)
        } else {
            self.frames.alloc_ram(order, self.owner)
        };
        if taken.is_none() {
            self.frames.uncharge(self.owner, 1 << order);
        }
        Ok(taken)
    }

    /// Maps a block of frames of up to 2 MiB, all or nothing; takes over their references.
    fn install(&self, gfn: Gfn, mfn: Mfn, order: u32) -> Result<()> {
        let mut gather = self.gather();
        let level = if order == LARGE_ORDER { 2 } else { 1 };
        let mapped = self.change(&mut gather, |tables, pool| {
            let mut at = gfn.raw();
            while level == 1 && at < gfn.raw() + (1 << order) {
                match tables.walk(pool, at) {
                    Walk::Absent { level } => at = (at | (pages_at(level) - 1)) + 1,
                    Walk::Leaf(_) => return Err(MapError::Occupied),
                }
            }
            let owes = level > 1;
            if owes && !pool.owe() {
                return Err(MapError::NoMemory);
            }
            // All pages lie in one table, so that only the first can lack memory.
            for n in (0..1 << order).step_by(pages_at(level) as usize) {
                let (page, frame) = (gfn.raw() + n, Mfn::new(mfn.raw() + n));
                let mapped = tables.map(
                    pool,
                    page,
                    frame,
                    level,
                    self.rules.attrs(MapKind::Ram, level),
                );
                if mapped.is_err() && owes {
                    pool.owe_less();
                }
                mapped?;
            }
            Ok(())
        });
        self.finish(gather);
        mapped.map_err(|error| {
            self.frames.put_run(mfn, 1 << order);
            match error {
                MapError::NoMemory => Errno::NoMem,
                MapError::Occupied => Errno::Exist,
            }
        })
    }

    fn check_absent(&self, gfn: Gfn, count: u64) -> Result<()> {
        let mut at = gfn.raw();
        self.look(|tables| {
            while at < gfn.raw() + count {
                match tables.walk(&self.frames.phys(), at) {
                    Walk::Absent { level } => at = (at | (pages_at(level) - 1)) + 1,
                    Walk::Leaf(_) => return Err(Errno::Exist),
                }
            }
            Ok(())
        })
    }

    /// Undoes the first half of a populate that failed in its second.
    fn remove_ram(&self, gfn: Gfn, count: u64) {
        let (mut at, end) = (gfn.raw(), gfn.raw() + count);
        while at < end {
            let mut gather = self.gather();
            self.change(&mut gather, |tables, pool| {
                while at < end && !pool.dead.is_full() {
                    let Walk::Leaf(leaf) = tables.walk(pool, at) else {
                        at += 1; // The guest released it meanwhile.
                        continue;
                    };
                    let level = whole_level(&leaf, at, end);
                    if kind_of(leaf.attrs) == MapKind::Ram
                        && let Ok(Some(old)) = tables.unmap(pool, at, level)
                    {
                        pool.dead.leaf(at, old);
                    }
                    at += pages_at(level);
                }
            });
            self.finish(gather);
        }
    }

    /// Takes a block of RAM away, page by page, or a large page as a whole.
    pub(super) fn release_block<'p>(
        &'p self,
        gfn: Gfn,
        order: u32,
        gather: &mut Gather<'p>,
    ) -> Result<()> {
        let count = 1u64.checked_shl(order).ok_or(Errno::Inval)?;
        self.check(gfn, count)?;
        let (mut at, end) = (gfn.raw(), gfn.raw() + count);
        while at < end {
            self.make_room(gather);
            at += self.change(gather, |tables, pool| {
                let leaf = match tables.walk(pool, at) {
                    Walk::Leaf(leaf) if kind_of(leaf.attrs) == MapKind::Ram => leaf,
                    Walk::Leaf(_) => return Err(Errno::Inval),
                    Walk::Absent { .. } => return Err(Errno::NoEnt),
                };
                let level = whole_level(&leaf, at, end);
                let old = tables.unmap(pool, at, level).map_err(|_| Errno::NoMem)?;
                if let Some(old) = old {
                    pool.dead.leaf(at, old);
                }
                Ok(pages_at(level))
            })?;
        }
        Ok(())
    }

    pub(super) fn move_own<'p>(
        &'p self,
        from: Gfn,
        to: Gfn,
        gather: &mut Gather<'p>,
    ) -> Result<()> {
        self.check(from, 1)?;
        self.check(to, 1)?;
        self.change(gather, |tables, pool| {
            let source = match tables.walk(pool, from.raw()) {
                Walk::Leaf(leaf) if kind_of(leaf.attrs) == MapKind::Ram => leaf,
                _ => return Err(Errno::Inval),
            };
            if from == to {
                return Ok(());
            }
            super::map::check_replaceable(tables.walk(pool, to.raw()))?;
            // Split first, so that nothing can fail after the first change.
            let no_memory = |_| Errno::NoMem;
            tables
                .protect(pool, from.raw(), 1, source.attrs)
                .map_err(no_memory)?;
            let old = tables
                .replace(
                    pool,
                    to.raw(),
                    source.mfn,
                    self.rules.attrs(MapKind::Ram, 1),
                )
                .map_err(no_memory)?;
            if let Some(old) = old {
                pool.dead.leaf(to.raw(), old);
            }
            // The reference moved along with the frame.
            let _ = tables.unmap(pool, from.raw(), 1);
            pool.dead.changed(from.raw());
            Ok(())
        })?;
        self.note_top(to.raw());
        Ok(())
    }

    /// An instruction was fetched from a page that may not be executed. True if that was for its
    /// size alone: its large page is split, and may be executed now. Rights are only added, so
    /// nothing has to be flushed: a translation that faulted is dropped by the CPU (SDM vol. 3,
    /// 29.4.3.1).
    pub(super) fn allow_exec(&self, gfn: Gfn) -> bool {
        if gfn.raw() >= self.gfn_end {
            return false;
        }
        let mut gather = self.gather();
        let allowed = self.change(&mut gather, |tables, pool| {
            let Walk::Leaf(leaf) = tables.walk(pool, gfn.raw()) else {
                return false;
            };
            if kind_of(leaf.attrs) != MapKind::Ram || leaf.attrs.exec {
                return false;
            }
            let attrs = Attrs {
                exec: true,
                ..leaf.attrs
            };
            tables.protect(pool, gfn.raw(), 1, attrs).is_ok()
        });
        self.finish(gather);
        allowed
    }

    /// Takes away up to `budget` entries. True when none is left.
    pub(super) fn drain(&self, budget: usize) -> bool {
        let mut left = budget;
        loop {
            let part = left.min(BATCH);
            let mut gather = self.gather();
            let empty = self.change(&mut gather, |tables, pool| {
                let mut leaves = [None; BATCH];
                let mut slots = leaves.iter_mut();
                let empty = tables.drain(pool, part, |leaf| {
                    if let Some(slot) = slots.next() {
                        *slot = Some(leaf);
                    }
                });
                for leaf in leaves.into_iter().flatten() {
                    pool.dead.many_changed();
                    pool.dead.leaf(0, leaf);
                }
                empty
            });
            self.finish(gather);
            left -= part;
            if empty || left == 0 {
                return empty;
            }
        }
    }
}

/// The level at which a leaf at `at` goes, if all up to `end` goes: its own if all of it lies
/// there, or else that of one page.
fn whole_level(leaf: &Leaf, at: u64, end: u64) -> u32 {
    let pages = pages_at(leaf.level);
    let whole = at.is_multiple_of(pages) && end - at >= pages;
    if whole { leaf.level } else { 1 }
}
