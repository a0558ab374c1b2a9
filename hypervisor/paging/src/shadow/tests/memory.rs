//! A guest's memory: frames, a p2m, and tables of all levels that lead somewhere.

use std::cell::{Cell, RefCell};
use std::vec::Vec;

use core::sync::atomic::Ordering;

use oxen_mm::{AllocOptions, FrameTable, Phys};
use oxen_types::paging::GuestPage;
use oxen_types::{Gaddr, Gfn, Mfn};

use super::*;
use crate::shadow::ShadowSpace;
use crate::shadow::cache::ShadowedGuest;
use crate::testing::{OWNER, zeroed};
use crate::walk::PhysRead;

/// The p2m's entry for a gfn: the frame's number and rights.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) frame: u64,
    pub(super) write: bool,
    pub(super) exec: bool,
}

pub(super) struct Memory {
    pub(super) phys: Phys,
    pub(super) first: u64,
    pub(super) large_first: u64,
    pub(super) p2m: RefCell<Vec<Option<Entry>>>,
    pub(super) large: Cell<bool>,
}

pub(super) fn p2m() -> Vec<Option<Entry>> {
    let entry = |gfn| {
        let there = gfn < ABSENT || (READ_ONLY..FRAMES).contains(&gfn) || gfn >= LARGE_FIRST;
        there.then_some(Entry {
            frame: gfn,
            write: !(READ_ONLY..NO_FETCH).contains(&gfn),
            exec: !(NO_FETCH..LARGE_FIRST).contains(&gfn),
        })
    };
    (0..LARGE_END).map(entry).collect()
}

impl Memory {
    /// A guest's memory whose tables lead somewhere.
    pub(super) fn new(frames: &'static FrameTable) -> Self {
        let large = AllocOptions::default();
        let large = frames.alloc_own(9, OWNER, large).unwrap();
        let memory = Self {
            phys: frames.phys(),
            first: zeroed(frames, 6).raw(),
            large_first: large.raw(),
            p2m: RefCell::new(p2m()),
            large: Cell::new(true),
        };
        for table in 0..TABLES {
            for index in [0, 1, 2, 510, 511] {
                let frame = frame_of(table, NEXT + table * 3 + index);
                let word = &memory.phys.table(memory.mfn(table))[index as usize];
                word.store(frame << 12 | 7, Ordering::Relaxed);
            }
        }
        memory
    }

    /// Of the hypervisor's own number.
    pub(super) fn mfn(&self, frame: u64) -> Mfn {
        match frame.checked_sub(LARGE_FIRST) {
            Some(n) => Mfn::new(self.large_first + n),
            None => Mfn::new(self.first + frame),
        }
    }
    pub(super) fn entry(&self, gfn: u64) -> Option<Entry> {
        *self.p2m.borrow().get(gfn as usize)?
    }
    pub(super) fn word(&self, at: u64) -> Option<&'static core::sync::atomic::AtomicU64> {
        let mfn = self.mfn(self.entry(at >> 12)?.frame);
        Some(&self.phys.table(mfn)[(at & 0xfff) as usize / 8])
    }
}

impl PhysRead for Memory {
    fn read_u64(&self, at: Gaddr) -> Option<u64> {
        Some(self.word(at.raw())?.load(Ordering::Relaxed))
    }
}

impl ShadowSpace for Memory {
    fn exchange(&self, at: Gaddr, size: u8, old: u64, new: u64) -> bool {
        let Some(word) = self.word(at.raw()) else {
            return false;
        };
        let now = word.load(Ordering::Relaxed);
        let shift = if size == 4 { at.raw() % 8 * 8 } else { 0 };
        let mask = if size == 4 { 0xffff_ffff } else { u64::MAX };
        if now >> shift & mask != old {
            return false;
        }
        word.store(now & !(mask << shift) | new << shift, Ordering::Relaxed);
        true
    }

    fn page(&self, gfn: Gfn) -> Option<GuestPage> {
        let entry = self.entry(gfn.raw())?;
        Some(GuestPage {
            mfn: self.mfn(entry.frame),
            large: gfn.raw() >= LARGE_FIRST && self.large.get(),
            write: entry.write,
            exec: entry.exec,
            cached: true,
        })
    }
}

/// The hypervisor's part: it makes all vcpus' TLBs forget.
pub(super) struct Outside<'a> {
    pub(super) memory: &'a Memory,
    pub(super) flushed: &'a Cell<u32>,
}

impl ShadowedGuest for Outside<'_> {
    fn frame(&self, gfn: u64) -> Option<Mfn> {
        Some(self.memory.mfn(self.memory.entry(gfn)?.frame))
    }
    fn flush(&self) {
        self.flushed.set(self.flushed.get() + 1);
    }
}
