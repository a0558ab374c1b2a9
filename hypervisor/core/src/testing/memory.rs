//! A guest-physical space as a map from gfn to frame.

use std::collections::BTreeMap;
use std::sync::Mutex;

use oxen_types::{DomainId, Errno, Gaddr, Gfn, Mfn, PAGE_SIZE, Result};

use super::FakeFrames;
use super::heap::{self, Locked};
use crate::seams::{
    Access, FLUSHED_TOGETHER, FaultKind, FrameSource, GuestMemory, MapKind, Mapped, P2mEntry,
    PageRef, Report,
};

/// Guest-physical addresses have 40 bits here.
const GFNS: u64 = 1 << 28;

#[derive(Default)]
struct Space {
    entries: BTreeMap<u64, P2mEntry>,
    ram: u64,
    most: u64,
    top: u64,
    logging: bool,
    faults: u32,
    pool: u64,
    claim: u64,
}

impl Space {
    fn put(&mut self, gfn: Gfn, entry: P2mEntry) {
        self.top = self.top.max(gfn.raw());
        self.entries.insert(gfn.raw(), entry);
    }
}

pub struct FakeMemory {
    frames: &'static FakeFrames,
    owner: DomainId,
    space: Mutex<Space>,
}

impl FakeMemory {
    pub fn new(frames: &'static FakeFrames, owner: DomainId, most: u64) -> Self {
        let space = Space {
            most,
            ..Space::default()
        };
        Self {
            frames,
            owner,
            space: Mutex::new(space),
        }
    }

    fn space(&self) -> Locked<'_, Space> {
        heap::lock(&self.space)
    }

    fn drop_entry(&self, space: &mut Space, entry: P2mEntry) {
        if entry.kind == MapKind::Ram {
            space.ram -= 1;
        }
        if entry.kind != MapKind::Mmio {
            self.frames.put(entry.mfn);
        }
    }

    /// Does something for each item of a list. What that takes away is flushed together.
    fn together<T>(
        &self,
        list: &mut dyn Iterator<Item = T>,
        report: &mut Report<'_>,
        mut act: impl FnMut(&mut Space, T) -> Result<()>,
    ) {
        for (n, item) in list.enumerate() {
            let mut space = self.space();
            let done = act(&mut space, item);
            if n % FLUSHED_TOGETHER == 0 {
                self.frames.count_flush();
            }
            drop(space);
            report(done);
        }
    }

    /// Takes away what another page takes the place of.
    fn clear_for(&self, space: &mut Space, gfn: Gfn) -> Result<()> {
        if let Some(old) = space.entries.get(&gfn.raw()).copied() {
            if matches!(old.kind, MapKind::Grant { .. } | MapKind::Mmio) {
                return Err(Errno::Busy);
            }
            self.drop_entry(space, old);
        }
        Ok(())
    }

    /// Visits the parts of a range page by page.
    fn parts(
        &self,
        at: Gaddr,
        len: usize,
        mut visit: impl FnMut(P2mEntry, usize, core::ops::Range<usize>),
    ) -> Result<()> {
        let mut done = 0;
        while done < len {
            let here = at.checked_add(done as u64).ok_or(Errno::Fault)?;
            let entry = self.lookup(here.frame()).ok_or(Errno::Fault)?;
            if entry.kind == MapKind::Mmio {
                return Err(Errno::Fault);
            }
            let part = (PAGE_SIZE - here.page_offset()).min(len - done);
            visit(entry, here.page_offset(), done..done + part);
            done += part;
        }
        Ok(())
    }
}

impl GuestMemory for FakeMemory {
    fn lookup(&self, gfn: Gfn) -> Option<P2mEntry> {
        self.space().entries.get(&gfn.raw()).copied()
    }

    fn fault(&self, at: Gaddr, _: Access) -> FaultKind {
        match self.lookup(at.frame()) {
            Some(_) => FaultKind::Spurious,
            None => FaultKind::Absent,
        }
    }

    fn read(&self, from: Gaddr, into: &mut [u8]) -> Result<()> {
        self.parts(from, into.len(), |entry, offset, range| {
            self.frames.read(entry.mfn, offset, &mut into[range]);
        })
    }

    fn write(&self, to: Gaddr, from: &[u8]) -> Result<()> {
        let mut readonly = false;
        self.parts(to, from.len(), |entry, offset, range| {
            if entry.kind == (MapKind::Grant { writable: false }) {
                readonly = true;
            } else {
                self.frames.write(entry.mfn, offset, &from[range]);
                self.frames.mark_written(entry.mfn);
            }
        })?;
        if readonly { Err(Errno::Fault) } else { Ok(()) }
    }

    fn page(&self, gfn: Gfn, own_ram: bool) -> Result<PageRef> {
        let space = self.space();
        let entry = space.entries.get(&gfn.raw()).ok_or(Errno::Inval)?;
        let fits = if own_ram {
            entry.kind == MapKind::Ram
        } else {
            entry.kind != MapKind::Mmio
        };
        if !fits {
            return Err(Errno::Inval);
        }
        PageRef::take(self.frames, entry.mfn).ok_or(Errno::NoMem)
    }

    fn populate_kept(&self, _: Gfn, _: u32) -> Result<()> {
        Err(Errno::Perm)
    }

    fn populate(&self, gfn: Gfn, order: u32) -> Result<()> {
        let count = 1u64 << order;
        let mut space = self.space();
        let end = gfn.raw().checked_add(count).ok_or(Errno::Inval)?;
        if !gfn.is_aligned(order) && gfn.raw() != 0 || end > GFNS {
            return Err(Errno::Inval);
        }
        if space.ram + count > space.most {
            return Err(Errno::NoMem);
        }
        if space.entries.range(gfn.raw()..end).next().is_some() {
            return Err(Errno::Exist);
        }
        for i in gfn.raw()..end {
            let Some(mfn) = self.frames.take(self.owner) else {
                for done in gfn.raw()..i {
                    if let Some(entry) = space.entries.remove(&done) {
                        self.drop_entry(&mut space, entry);
                    }
                }
                return Err(Errno::NoMem);
            };
            let kind = MapKind::Ram;
            space.entries.insert(i, P2mEntry { mfn, kind });
            space.ram += 1;
        }
        space.top = space.top.max(end - 1);
        Ok(())
    }

    fn move_all(&self, list: &mut dyn Iterator<Item = (Gfn, Gfn)>, report: &mut Report<'_>) {
        self.together(list, report, |space, (from, to)| {
            let entry = *space.entries.get(&from.raw()).ok_or(Errno::Inval)?;
            if entry.kind != MapKind::Ram || to.raw() >= GFNS {
                return Err(Errno::Inval);
            }
            if from != to {
                self.clear_for(space, to)?;
                space.entries.remove(&from.raw());
                space.put(to, entry);
            }
            Ok(())
        });
    }

    fn release_all(
        &self,
        order: u32,
        blocks: &mut dyn Iterator<Item = Gfn>,
        report: &mut Report<'_>,
    ) {
        self.together(blocks, report, |space, gfn| {
            for gfn in gfn.raw()..gfn.raw().saturating_add(1 << order) {
                match space.entries.get(&gfn).copied() {
                    Some(entry) if entry.kind == MapKind::Ram => {
                        space.entries.remove(&gfn);
                        self.drop_entry(space, entry);
                    }
                    _ => return Err(Errno::Inval),
                }
            }
            Ok(())
        });
    }

    fn map_all(
        &self,
        kind: MapKind,
        list: &mut dyn Iterator<Item = (Gfn, PageRef)>,
        report: &mut Report<'_>,
    ) {
        self.together(list, report, |space, (gfn, page)| {
            if gfn.raw() >= GFNS {
                return Err(Errno::Inval);
            }
            self.clear_for(space, gfn)?;
            let mfn = page.into_mfn();
            space.put(gfn, P2mEntry { mfn, kind });
            Ok(())
        });
    }

    fn unmap_all(&self, list: &mut dyn Iterator<Item = Mapped>, report: &mut Report<'_>) {
        self.together(list, report, |space, Mapped { gfn, mfn, kind }| match space
            .entries
            .get(&gfn.raw())
            .copied()
        {
            Some(entry) if entry == (P2mEntry { mfn, kind }) => {
                space.entries.remove(&gfn.raw());
                self.drop_entry(space, entry);
                Ok(())
            }
            _ => Err(Errno::NoEnt),
        });
    }

    fn map_mmio(&self, _: Gfn, _: Mfn, _: u64) -> Result<()> {
        Err(Errno::Perm)
    }

    fn unmap_mmio(&self, _: Gfn, _: u64) -> Result<()> {
        Err(Errno::Perm)
    }

    fn ram_frames(&self) -> u64 {
        self.space().ram
    }

    fn max_frames(&self) -> u64 {
        self.space().most
    }

    fn set_max_frames(&self, frames: u64) {
        self.space().most = frames;
    }

    fn pool(&self) -> u64 {
        self.space().pool
    }

    /// A few pages a step, so that calls have to go on; there are never more than these.
    fn set_pool(&self, pages: u64) -> Result<bool> {
        const STEP: u64 = 256;
        const MOST: u64 = 1 << 14;
        let mut space = self.space();
        if pages > MOST {
            return Err(Errno::NoMem);
        }
        space.pool = pages.clamp(space.pool.saturating_sub(STEP), space.pool + STEP);
        Ok(space.pool == pages)
    }

    fn claim(&self, pages: u64) -> Result<()> {
        let mut space = self.space();
        if pages == 0 {
            space.claim = 0;
        } else if space.claim > 0 || pages > space.most || pages <= space.ram {
            return Err(Errno::Inval);
        } else if pages - space.ram > self.frames.stats().free_frames {
            return Err(Errno::NoMem);
        } else {
            space.claim = pages - space.ram;
        }
        Ok(())
    }

    fn claimed(&self) -> u64 {
        self.space().claim
    }

    fn max_gfn(&self) -> Gfn {
        Gfn::new(self.space().top)
    }

    fn flush(&self) {
        self.frames.count_flush();
    }

    fn logs_writes(&self) -> bool {
        self.space().logging
    }

    fn log_writes(&self, on: bool, from: Gfn) -> Option<Gfn> {
        /// Few, so that calls have to go on.
        const STEP: usize = 8;
        let mut space = self.space();
        space.logging = true;
        let part = space.entries.range(from.raw()..).take(STEP);
        let mut last = None;
        for (gfn, entry) in part {
            self.frames.written(entry.mfn, true);
            last = Some(*gfn);
        }
        let next = last.map(|gfn| Gfn::new(gfn + 1));
        space.logging = on || next.is_some();
        next
    }

    fn written(&self, first: Gfn, count: u64, bits: &mut [u8], clean: bool) -> u64 {
        let space = self.space();
        let range = first.raw()..first.raw().saturating_add(count);
        let mut found = 0;
        for (gfn, entry) in space.entries.range(range) {
            if space.logging && entry.kind != MapKind::Mmio && self.frames.written(entry.mfn, clean)
            {
                let n = gfn - first.raw();
                bits[n as usize / 8] |= 1 << (n % 8);
                found += 1;
            }
        }
        found
    }

    fn log_write(&self, gfn: Gfn) -> bool {
        let mut space = self.space();
        match space.entries.get(&gfn.raw()).copied() {
            Some(entry) if space.logging => {
                self.frames.mark_written(entry.mfn);
                space.faults += 1;
                true
            }
            _ => false,
        }
    }

    fn allow_exec(&self, _: Gfn) -> bool {
        false
    }

    fn log_faults(&self, reset: bool) -> u32 {
        let mut space = self.space();
        let faults = space.faults;
        if reset {
            space.faults = 0;
        }
        faults
    }

    fn teardown(&self, budget: usize) -> bool {
        let mut space = self.space();
        for _ in 0..budget {
            let Some((_, entry)) = space.entries.pop_first() else {
                return true;
            };
            self.drop_entry(&mut space, entry);
        }
        space.entries.is_empty()
    }
}
