//! Copies between the hypervisor and guest-physical memory, page by page.

use oxen_core::seams::{FrameSource, MapKind};
use oxen_types::{Errno, Gaddr, Gfn, Mfn, PAGE_SIZE, Result};

use super::GuestSpace;
use super::kind::{kind_of, may_write};
use crate::phys::Phys;
use crate::pt::Format;

impl<F: Format> GuestSpace<F> {
    pub(super) fn copy_out(&self, from: Gaddr, into: &mut [u8]) -> Result<()> {
        self.check_bytes(from, into.len())?;
        let mut at = from;
        let mut rest = into;
        while !rest.is_empty() {
            let offset = at.page_offset();
            let (part, later) = rest.split_at_mut(rest.len().min(PAGE_SIZE - offset));
            self.with_frame(at.frame(), false, |phys, mfn| phys.read(mfn, offset, part))?;
            at = next_page(at);
            rest = later;
        }
        Ok(())
    }

    pub(super) fn word(&self, at: Gaddr) -> Result<u64> {
        let gfn = at.frame();
        if gfn.raw() >= self.gfn_end {
            return Err(Errno::Fault);
        }
        self.with_frame(gfn, false, |phys, mfn| phys.word(mfn, at.page_offset()))
    }

    /// The word is changed as a whole: another part of it that changes at the same time undoes the
    /// attempt.
    pub(super) fn exchange_word(&self, at: Gaddr, size: u8, old: u64, new: u64) -> Result<bool> {
        let gfn = at.frame();
        if gfn.raw() >= self.gfn_end {
            return Err(Errno::Fault);
        }
        let (shift, mask) = match size {
            4 => (at.raw() % 8 / 4 * 32, u64::from(u32::MAX)),
            _ => (0, u64::MAX),
        };
        self.with_frame(gfn, true, |phys, mfn| {
            let there = phys.word(mfn, at.page_offset());
            let whole = there & !(mask << shift);
            let changed = there >> shift & mask == old
                && phys.exchange(mfn, at.page_offset(), there, whole | (new & mask) << shift);
            if changed {
                self.frames.mark_written(mfn);
            }
            changed
        })
    }

    pub(super) fn copy_in(&self, to: Gaddr, from: &[u8]) -> Result<()> {
        self.check_bytes(to, from.len())?;
        let mut at = to;
        let mut rest = from;
        while !rest.is_empty() {
            let offset = at.page_offset();
            let (part, later) = rest.split_at(rest.len().min(PAGE_SIZE - offset));
            self.with_frame(at.frame(), true, |phys, mfn| {
                phys.write(mfn, offset, part);
                self.frames.mark_written(mfn);
            })?;
            at = next_page(at);
            rest = later;
        }
        Ok(())
    }

    fn check_bytes(&self, at: Gaddr, len: usize) -> Result<()> {
        match at.checked_add(len as u64) {
            _ if len == 0 => Ok(()),
            Some(end) if end.raw().div_ceil(PAGE_SIZE as u64) <= self.gfn_end => Ok(()),
            _ => Err(Errno::Fault),
        }
    }

    /// Uses the frame at `gfn` while the read lock keeps it there.
    fn with_frame<T>(&self, gfn: Gfn, write: bool, copy: impl FnOnce(Phys, Mfn) -> T) -> Result<T> {
        self.look(|tables| {
            let leaf = self.leaf_in(tables, gfn).ok_or(Errno::Fault)?;
            let kind = kind_of(leaf.attrs);
            if kind == MapKind::Mmio || (write && !may_write(kind)) {
                return Err(Errno::Fault);
            }
            Ok(copy(self.frames.phys(), leaf.mfn))
        })
    }
}

/// The start of the page after; only used for ranges that were checked.
fn next_page(at: Gaddr) -> Gaddr {
    Gfn::new(at.frame().raw() + 1).base()
}
