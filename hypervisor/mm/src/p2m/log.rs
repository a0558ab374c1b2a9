//! Log-dirty mode: which pages were written since they were last clean.
//!
//! There is no bitmap. While the mode is on, a page of the domain's is clean if its entry forbids
//! writes and its frame bears no mark:
//! - The guest's own first write to a clean page faults; [`GuestSpace::allow_write`] makes the
//!   entry writable.
//! - Everything else that writes a frame marks it afterwards (`FrameSource::mark_written`): the
//!   hypervisor's copies, event words, clocks, and the end of a writable grant mapping.
//! - What is mapped anew is writable, so it counts as written.
//!
//! A large page is protected as a whole, and split when a part of it is written. Whoever is told
//! that a page was clean may read it right away: entries lose their rights and guests are flushed
//! before.

use core::sync::atomic::Ordering;

use oxen_core::seams::MapKind;
use oxen_types::{Gfn, Mfn};

use super::GuestSpace;
use super::gather::DomainPool;
use super::kind::kind_of;
use crate::frames::FrameTable;
use crate::pt::{Attrs, Format, Leaf, PageTable, Walk, pages_at};

/// Pages that one step looks at.
const STEP: u64 = 1 << 14;

/// Pages whose writes are logged: what others lend it is for the lender's log.
fn is_logged(leaf: &Leaf) -> bool {
    matches!(kind_of(leaf.attrs), MapKind::Ram | MapKind::Xen)
}

impl<F: Format> GuestSpace<F> {
    pub(super) fn switch_log(&self, on: bool, from: Gfn) -> Option<Gfn> {
        self.logging.store(true, Ordering::Relaxed);
        let (mut at, end) = (from.raw(), self.gfn_end);
        let mut gather = self.gather();
        self.change(&mut gather, |tables, pool| {
            let mut left = STEP;
            while at < end && left > 0 {
                let leaf = match tables.walk(pool, at) {
                    Walk::Absent { level } => {
                        at = (at | (pages_at(level) - 1)) + 1;
                        left -= 1;
                        continue;
                    }
                    Walk::Leaf(leaf) => leaf,
                };
                let pages = pages_at(leaf.level);
                if is_logged(&leaf) {
                    set_write(tables, pool, at, &leaf, !on);
                    let first = leaf.mfn.raw() - at % pages;
                    for n in 0..pages {
                        self.frames.written(Mfn::new(first + n), true);
                    }
                }
                at = (at | (pages - 1)) + 1;
                left = left.saturating_sub(pages);
            }
        });
        self.finish(gather);
        if at < end {
            return Some(Gfn::new(at));
        }
        self.logging.store(on, Ordering::Relaxed);
        None
    }

    pub(super) fn collect_written(
        &self,
        first: Gfn,
        count: u64,
        bits: &mut [u8],
        clean: bool,
    ) -> u64 {
        if !self.logging.load(Ordering::Relaxed) {
            return 0;
        }
        let end = first.raw().saturating_add(count);
        let (mut at, end) = (first.raw(), end.min(self.gfn_end));
        let mut found = 0;
        let mut gather = self.gather();
        self.change(&mut gather, |tables, pool| {
            while at < end {
                let leaf = match tables.walk(pool, at) {
                    Walk::Absent { level } => {
                        at = (at | (pages_at(level) - 1)) + 1;
                        continue;
                    }
                    Walk::Leaf(leaf) => leaf,
                };
                let next = ((at | (pages_at(leaf.level) - 1)) + 1).min(end);
                if is_logged(&leaf) {
                    found += note(self.frames, &leaf, at, next, first, bits, clean);
                    // Of a large page that is asked for in part, all stays written.
                    let whole = at.is_multiple_of(pages_at(leaf.level))
                        && next - at == pages_at(leaf.level);
                    if clean && whole && leaf.attrs.write {
                        set_write(tables, pool, at, &leaf, false);
                    }
                }
                at = next;
            }
        });
        self.finish(gather);
        found
    }

    /// A write faulted. True if the page may be written now, and could not be before.
    pub(super) fn allow_write(&self, gfn: Gfn) -> bool {
        if gfn.raw() >= self.gfn_end {
            return false;
        }
        // Even if the mode was switched off meanwhile: a step of it may still have been under way.
        let mut gather = self.gather();
        let allowed = self.change(&mut gather, |tables, pool| {
            let Walk::Leaf(leaf) = tables.walk(pool, gfn.raw()) else {
                return false;
            };
            if !is_logged(&leaf) || leaf.attrs.write {
                return false;
            }
            let attrs = Attrs {
                write: true,
                ..leaf.attrs
            };
            // Without memory for a table the whole large page counts as written.
            tables.protect(pool, gfn.raw(), 1, attrs).is_ok()
                || tables.protect(pool, gfn.raw(), leaf.level, attrs).is_ok()
        });
        // Rights were only added: a translation without them faults once more, and is dropped then.
        self.finish(gather);
        if allowed {
            self.log_faults.fetch_add(1, Ordering::Relaxed);
        }
        allowed
    }
}

/// Gives or takes the right to write; at the leaf's own level nothing is split, so it cannot fail.
fn set_write<F: Format>(
    tables: &PageTable<F>,
    pool: &mut DomainPool<'_, '_>,
    at: u64,
    leaf: &Leaf,
    write: bool,
) {
    let attrs = Attrs {
        write,
        ..leaf.attrs
    };
    let done = tables.protect(pool, at, leaf.level, attrs);
    debug_assert!(done.is_ok());
    if !write {
        pool.dead.many_changed();
    }
}

/// Sets the bits of the pages `from..to` of one leaf; how many.
fn note(
    frames: &FrameTable,
    leaf: &Leaf,
    from: u64,
    to: u64,
    first: Gfn,
    bits: &mut [u8],
    clean: bool,
) -> u64 {
    let mut count = 0;
    for at in from..to {
        let mfn = Mfn::new(leaf.mfn.raw() + (at - from));
        let marked = frames.written(mfn, clean);
        let n = at - first.raw();
        if (marked || leaf.attrs.write)
            && let Some(byte) = bits.get_mut((n / 8) as usize)
        {
            *byte |= 1 << (n % 8);
            count += 1;
        }
    }
    count
}
