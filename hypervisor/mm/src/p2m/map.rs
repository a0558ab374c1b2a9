//! Frames that are not populated RAM: shared, foreign and granted pages.

use oxen_core::seams::{MapKind, Mapped, PageRef};
use oxen_types::{Errno, Gfn, Result};

use super::GuestSpace;
use super::gather::Gather;
use super::kind::kind_of;
use crate::pt::{Format, Walk};

/// Checks that a page may replace what is mapped there: -EBUSY for a grant or device memory.
pub(super) fn check_replaceable(there: Walk) -> Result<()> {
    match there {
        Walk::Leaf(leaf) => match kind_of(leaf.attrs) {
            MapKind::Grant { .. } | MapKind::Mmio => Err(Errno::Busy),
            MapKind::Ram | MapKind::Xen | MapKind::Foreign => Ok(()),
        },
        Walk::Absent { .. } => Ok(()),
    }
}

impl<F: Format> GuestSpace<F> {
    pub(super) fn page_at(&self, gfn: Gfn, own_ram: bool) -> Result<PageRef> {
        self.check(gfn, 1)?;
        self.look(|tables| {
            let leaf = self.leaf_in(tables, gfn).ok_or(Errno::Inval)?;
            match kind_of(leaf.attrs) {
                MapKind::Ram => {}
                MapKind::Mmio => return Err(Errno::Inval),
                _ if own_ram => return Err(Errno::Inval),
                _ => {}
            }
            // The entry's reference keeps the frame counted while we hold the lock.
            PageRef::take(self.frames, leaf.mfn).ok_or(Errno::Busy)
        })
    }

    pub(super) fn map_page<'p>(
        &'p self,
        gfn: Gfn,
        page: PageRef,
        kind: MapKind,
        gather: &mut Gather<'p>,
    ) -> Result<()> {
        self.check(gfn, 1)?;
        let mfn = page.mfn();
        match kind {
            MapKind::Mmio => return Err(Errno::Inval),
            MapKind::Ram if !self.frames.is_ram_of(mfn, self.owner) => return Err(Errno::Inval),
            _ => {}
        }
        self.change(gather, |tables, pool| {
            check_replaceable(tables.walk(pool, gfn.raw()))?;
            let old = tables.replace(pool, gfn.raw(), mfn, self.rules.attrs(kind, 1));
            if let Some(old) = old.map_err(|_| Errno::NoMem)? {
                pool.dead.leaf(gfn.raw(), old);
            }
            Ok::<(), Errno>(())
        })?;
        page.into_mfn(); // The entry holds the reference now.
        self.note_top(gfn.raw());
        Ok(())
    }

    pub(super) fn unmap_page<'p>(&'p self, mapped: &Mapped, gather: &mut Gather<'p>) -> Result<()> {
        let &Mapped { gfn, mfn, kind } = mapped;
        self.check(gfn, 1)?;
        if kind == MapKind::Mmio {
            return Err(Errno::Inval);
        }
        self.change(gather, |tables, pool| {
            match tables.walk(pool, gfn.raw()) {
                Walk::Leaf(leaf) if leaf.mfn == mfn && kind_of(leaf.attrs) == kind => {}
                _ => return Err(Errno::NoEnt),
            }
            let old = tables.unmap(pool, gfn.raw(), 1).map_err(|_| Errno::NoMem)?;
            if let Some(old) = old {
                pool.dead.leaf(gfn.raw(), old);
            }
            Ok(())
        })
    }
}
