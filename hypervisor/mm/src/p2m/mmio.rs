//! Device memory: mapped uncached, never executable, without references.

use oxen_core::seams::MapKind;
use oxen_types::{Errno, Gfn, Mfn, Result};

use super::GuestSpace;
use super::kind::kind_of;
use crate::pt::{Format, Walk, pages_at};

/// Entries changed while the lock is held once.
const STEP: usize = 512;

impl<F: Format> GuestSpace<F> {
    /// Maps device memory. A page that is mapped so already is no error; after an error a part of
    /// the range may be mapped.
    pub(super) fn map_device(&self, gfn: Gfn, mfn: Mfn, count: u64) -> Result<()> {
        self.check(gfn, count)?;
        let in_range = |end| end <= 1 << 40;
        if !mfn.raw().checked_add(count).is_some_and(in_range) {
            return Err(Errno::Inval);
        }
        if self.frames.has_ram(mfn, count) {
            return Err(Errno::Perm);
        }
        let mut done = 0;
        while done < count {
            let mut gather = self.gather();
            let step = self.change(&mut gather, |tables, pool| {
                for _ in 0..STEP {
                    let (page, frame) = (gfn.raw() + done, mfn.raw() + done);
                    if done >= count {
                        break;
                    }
                    let large = pages_at(2);
                    let fits = (page | frame).is_multiple_of(large) && count - done >= large;
                    let level = match tables.walk(pool, page) {
                        Walk::Absent { level } if level >= 2 && fits => 2,
                        Walk::Absent { .. } => 1,
                        Walk::Leaf(old)
                            if kind_of(old.attrs) == MapKind::Mmio && old.mfn.raw() == frame =>
                        {
                            done += 1;
                            continue;
                        }
                        Walk::Leaf(_) => return Err(Errno::Exist),
                    };
                    if level > 1 && !pool.owe() {
                        return Err(Errno::NoMem);
                    }
                    let attrs = self.rules.attrs(MapKind::Mmio, level);
                    let mapped = tables.map(pool, page, Mfn::new(frame), level, attrs);
                    if mapped.is_err() && level > 1 {
                        pool.owe_less();
                    }
                    mapped.map_err(|_| Errno::NoMem)?;
                    self.note_top(page + pages_at(level) - 1);
                    done += pages_at(level);
                }
                Ok(())
            });
            self.finish(gather);
            step?;
        }
        Ok(())
    }

    /// Unmaps the device memory of a range. Other pages stay.
    pub(super) fn unmap_device(&self, gfn: Gfn, count: u64) -> Result<()> {
        self.check(gfn, count)?;
        let (mut at, end) = (gfn.raw(), gfn.raw() + count);
        let mut gather = self.gather();
        let mut result = Ok(());
        while at < end && result.is_ok() {
            result = self.change(&mut gather, |tables, pool| {
                for _ in 0..STEP {
                    if at >= end {
                        break;
                    }
                    let leaf = match tables.walk(pool, at) {
                        Walk::Leaf(leaf) => leaf,
                        Walk::Absent { level } => {
                            at = (at | (pages_at(level) - 1)) + 1;
                            continue;
                        }
                    };
                    let span = pages_at(leaf.level);
                    let whole = at.is_multiple_of(span) && end - at >= span;
                    let level = if whole { leaf.level } else { 1 };
                    if kind_of(leaf.attrs) == MapKind::Mmio {
                        let old = tables.unmap(pool, at, level).map_err(|_| Errno::NoMem)?;
                        if let Some(old) = old {
                            pool.dead.leaf(at, old);
                        }
                    }
                    at += pages_at(level);
                }
                Ok(())
            });
        }
        self.finish(gather);
        result
    }
}
