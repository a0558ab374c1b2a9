//! The frames and tables that a change of the p2m took away: they are given back after the lock is
//! dropped and the guest's translations are flushed, never before.

use arrayvec::ArrayVec;
use oxen_core::seams::{FLUSHED_TOGETHER, FrameSource, MapKind};
use oxen_types::{Gfn, Mfn};

use super::kind::{Rules, kind_of};
use super::{Cause, FlushGuest};
use crate::frames::{FrameList, FrameTable};
use crate::phys::Table;
use crate::pool::PagingPool;
use crate::pt::{Attrs, Leaf, TableAccess, TablePool, pages_at};

/// Leaves per batch.
pub(super) const BATCH: usize = FLUSHED_TOGETHER;
/// Changed pages that are told one by one: one for each leaf, and room for an operation that
/// changes two.
const FEW: usize = BATCH + 1;

#[must_use]
pub(super) struct Gather<'a> {
    frames: &'static FrameTable,
    pool: &'a PagingPool,
    /// Runs of frames, one reference each to drop, and whether the domain could write another's
    /// frame.
    runs: ArrayVec<(Mfn, u64, bool), BATCH>,
    tables: FrameList,
    changed: ArrayVec<Gfn, FEW>,
    many: bool,
}

impl<'a> Gather<'a> {
    pub(super) fn new(frames: &'static FrameTable, pool: &'a PagingPool) -> Self {
        Self {
            frames,
            pool,
            runs: ArrayVec::new(),
            tables: FrameList::new(),
            changed: ArrayVec::new(),
            many: false,
        }
    }

    /// Whether there is no room for what one operation takes away: a leaf, and changes at two
    /// pages.
    pub(super) fn is_full(&self) -> bool {
        self.runs.is_full() || (!self.many && self.changed.remaining_capacity() < 2)
    }

    /// Notes a leaf that was taken away from a gfn, with the reference that it held.
    pub(super) fn leaf(&mut self, at: u64, leaf: Leaf) {
        if leaf.level > 1 {
            self.pool.owe_less();
        }
        let kind = kind_of(leaf.attrs);
        if kind == MapKind::Mmio || leaf.level > 1 {
            self.many = true;
        } else {
            self.changed(at);
        }
        if kind != MapKind::Mmio {
            let granted = kind == MapKind::Grant { writable: true };
            self.runs.push((leaf.mfn, pages_at(leaf.level), granted));
        }
    }

    /// Notes a change of a page's entry whose frame stays in use.
    pub(super) fn changed(&mut self, at: u64) {
        self.many |= self.changed.try_push(Gfn::new(at)).is_err();
    }

    /// Notes changes of many.
    pub(super) fn many_changed(&mut self) {
        self.many = true;
    }

    /// With the p2m's lock dropped: flushes if anything was taken away, then drops the references.
    pub(super) fn finish(&mut self, flush: &dyn FlushGuest) {
        if self.many {
            flush.flush(Cause::Many);
        } else if !self.changed.is_empty() || self.tables.first().is_some() {
            flush.flush(Cause::Pages(&self.changed));
        }
        for (mfn, count, granted) in &self.runs {
            if *granted {
                self.frames.mark_written(*mfn);
            }
            self.frames.put_run(*mfn, *count);
        }
        while let Some(table) = self.tables.pop(self.frames) {
            self.pool.give(table);
        }
    }
}

/// Where the tables of one domain's p2m come from and go to.
pub(super) struct DomainPool<'a, 'p> {
    pub(super) frames: &'static FrameTable,
    pub(super) rules: Rules,
    pub(super) dead: &'a mut Gather<'p>,
}

impl DomainPool<'_, '_> {
    /// A large page is to be mapped. False if there is no page left for its split.
    pub(super) fn owe(&self) -> bool {
        self.dead.pool.owe()
    }

    /// Takes back a debt to the pool, for a large page that could not be mapped after all.
    pub(super) fn owe_less(&self) {
        self.dead.pool.owe_less();
    }
}

impl TableAccess for DomainPool<'_, '_> {
    fn table(&self, mfn: Mfn) -> &'static Table {
        self.frames.phys().table(mfn)
    }
}

impl TablePool for DomainPool<'_, '_> {
    fn alloc(&mut self) -> Option<Mfn> {
        self.dead.pool.take()
    }

    fn alloc_for_split(&mut self) -> Option<Mfn> {
        self.dead.pool.take_owed()
    }

    /// The parts may be executed even where the large page may not, for its size.
    fn part(&self, whole: Attrs) -> Attrs {
        Attrs {
            exec: self.rules.attrs(kind_of(whole), 1).exec,
            ..whole
        }
    }

    fn free(&mut self, table: Mfn) {
        self.dead.tables.push(self.frames, table);
    }
}
