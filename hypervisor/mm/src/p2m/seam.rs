//! The port through which the rest of the hypervisor sees a guest's memory.

use core::sync::atomic::Ordering;

use oxen_core::seams::{
    Access, FaultKind, GuestMemory, MapKind, Mapped, P2mEntry, PageRef, Report,
};
use oxen_types::paging::GuestPage;
use oxen_types::{Errno, Gaddr, Gfn, Mfn, Result};

use super::kind::kind_of;
use super::{Cause, GuestSpace};
use crate::pt::Format;

impl<F: Format> GuestMemory for GuestSpace<F> {
    fn lookup(&self, gfn: Gfn) -> Option<P2mEntry> {
        let leaf = self.leaf(gfn)?;
        Some(P2mEntry {
            mfn: leaf.mfn,
            kind: kind_of(leaf.attrs),
        })
    }

    fn fault(&self, at: Gaddr, access: Access) -> FaultKind {
        let gfn = at.frame();
        if gfn.raw() >= self.gfn_end {
            return FaultKind::OutOfRange;
        }
        let Some(leaf) = self.leaf(gfn) else {
            return FaultKind::Absent;
        };
        let allowed = match access {
            Access::Read => true,
            Access::Write => leaf.attrs.write,
            Access::Execute => leaf.attrs.exec,
        };
        match allowed {
            true => FaultKind::Spurious,
            false => FaultKind::Forbidden(kind_of(leaf.attrs)),
        }
    }

    fn read(&self, from: Gaddr, into: &mut [u8]) -> Result<()> {
        self.copy_out(from, into)
    }

    fn read_word(&self, at: Gaddr) -> Result<u64> {
        self.word(at)
    }

    fn mapping(&self, gfn: Gfn) -> Option<GuestPage> {
        let leaf = self.leaf(gfn)?;
        Some(GuestPage {
            mfn: leaf.mfn,
            large: leaf.level >= 2,
            write: leaf.attrs.write,
            exec: leaf.attrs.exec,
            cached: leaf.attrs.cached,
        })
    }

    fn exchange(&self, at: Gaddr, size: u8, old: u64, new: u64) -> Result<bool> {
        self.exchange_word(at, size, old, new)
    }

    fn write(&self, to: Gaddr, from: &[u8]) -> Result<()> {
        self.copy_in(to, from)
    }

    fn page(&self, gfn: Gfn, own_ram: bool) -> Result<PageRef> {
        self.page_at(gfn, own_ram)
    }

    fn populate(&self, gfn: Gfn, order: u32) -> Result<()> {
        self.populate_with(gfn, order, true)
    }

    fn populate_kept(&self, gfn: Gfn, order: u32) -> Result<()> {
        if !self.identity {
            return Err(Errno::Perm);
        }
        self.populate_with(gfn, order, false)
    }

    fn move_all(&self, list: &mut dyn Iterator<Item = (Gfn, Gfn)>, report: &mut Report<'_>) {
        self.together(list, report, |(from, to), gather| {
            self.move_own(from, to, gather)
        });
    }

    fn release_all(
        &self,
        order: u32,
        blocks: &mut dyn Iterator<Item = Gfn>,
        report: &mut Report<'_>,
    ) {
        self.together(blocks, report, |gfn, gather| {
            self.release_block(gfn, order, gather)
        });
    }

    fn map_all(
        &self,
        kind: MapKind,
        list: &mut dyn Iterator<Item = (Gfn, PageRef)>,
        report: &mut Report<'_>,
    ) {
        self.together(list, report, |(gfn, page), gather| {
            self.map_page(gfn, page, kind, gather)
        });
    }

    fn unmap_all(&self, list: &mut dyn Iterator<Item = Mapped>, report: &mut Report<'_>) {
        self.together(list, report, |mapped, gather| {
            self.unmap_page(&mapped, gather)
        });
    }

    fn map_mmio(&self, gfn: Gfn, mfn: Mfn, count: u64) -> Result<()> {
        self.map_device(gfn, mfn, count)
    }

    fn unmap_mmio(&self, gfn: Gfn, count: u64) -> Result<()> {
        self.unmap_device(gfn, count)
    }

    fn ram_frames(&self) -> u64 {
        self.frames.ram_of(self.owner)
    }

    fn max_frames(&self) -> u64 {
        self.max_frames.load(Ordering::Relaxed)
    }

    fn set_max_frames(&self, frames: u64) {
        self.max_frames.store(frames, Ordering::Relaxed);
    }

    fn pool(&self) -> u64 {
        self.pool.pages()
    }

    fn set_pool(&self, pages: u64) -> Result<bool> {
        // Never without its root.
        self.pool.resize(pages.max(1))
    }

    fn claim(&self, pages: u64) -> Result<()> {
        self.frames.claim(self.owner, pages, self.max_frames())
    }

    fn claimed(&self) -> u64 {
        self.frames.claim_of(self.owner)
    }

    fn max_gfn(&self) -> Gfn {
        Gfn::new(self.max_gfn.load(Ordering::Relaxed))
    }

    fn flush(&self) {
        self.flush.flush(Cause::Guest);
    }

    fn logs_writes(&self) -> bool {
        self.logging.load(Ordering::Relaxed)
    }

    fn log_writes(&self, on: bool, from: Gfn) -> Option<Gfn> {
        self.switch_log(on, from)
    }

    fn written(&self, first: Gfn, count: u64, bits: &mut [u8], clean: bool) -> u64 {
        self.collect_written(first, count, bits, clean)
    }

    fn log_write(&self, gfn: Gfn) -> bool {
        self.allow_write(gfn)
    }

    fn allow_exec(&self, gfn: Gfn) -> bool {
        GuestSpace::allow_exec(self, gfn)
    }

    fn log_faults(&self, reset: bool) -> u32 {
        match reset {
            true => self.log_faults.swap(0, Ordering::Relaxed),
            false => self.log_faults.load(Ordering::Relaxed),
        }
    }

    fn teardown(&self, budget: usize) -> bool {
        self.drain(budget)
    }
}
