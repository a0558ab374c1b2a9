//! The frame table: what each frame is used for, whose it is and how often it is referenced; and
//! the allocator of frames on top of it.
//!
//! A frame leaves `Counted` only when its last reference goes, so whoever holds a reference may use
//! the frame's bytes. The caller of the last [`FrameTable::put`] has done the TLB flush that is
//! owed. RAM is charged to its owner until the frame is really free: a page that a domain released
//! but that another still maps goes on counting against the domain that got it.
//!
//! The table is an array of sections of 32 MiB, of which only those that have RAM exist; 16 bytes
//! a frame.

mod account;
mod blocks;
mod buddy;
mod entry;
mod list;
mod refs;
#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use oxen_core::seams::{MemoryStats, PageWords};
use oxen_types::{DomainId, Mfn, PAGE_SIZE};
use spin::Mutex;

use crate::memmap::MemoryMap;
use crate::phys::{Phys, Shared};
pub(crate) use account::Account;
pub use blocks::AllocOptions;
pub use buddy::MAX_ORDER;
use buddy::Zone;
pub(crate) use entry::Entry;
pub use entry::FrameUse;
use entry::State;
pub(crate) use list::FrameList;

/// Frames per section, as a power of two.
const SECTION_SHIFT: u32 = 13;
const SECTION_FRAMES: usize = 1 << SECTION_SHIFT;
const SECTION_TABLE_PAGES: u64 = (SECTION_FRAMES * size_of::<Entry>() / PAGE_SIZE) as u64;
const MAX_ZONES: usize = 16;
const DOMAINS: usize = DomainId::FIRST_RESERVED.0 as usize;
const FOUR_GIB: u64 = 1 << 20;

/// The memory of one NUMA node, as frame numbers.
#[derive(Clone, Copy, Debug)]
pub struct NodeRange {
    /// The first frame.
    pub start: Mfn,
    /// The frame after the last.
    pub end: Mfn,
    /// The node's number.
    pub node: u8,
}

/// The frames of the machine, and their allocator.
pub struct FrameTable {
    phys: Phys,
    /// For each section, the frame where its entries begin; 0 where there is no RAM.
    sections: &'static [AtomicU32],
    zones: [Option<Zone>; MAX_ZONES],
    accounts: &'static [Account],
    /// Frames that are claimed; held by whoever takes free memory on a guest's behalf.
    taking: Mutex<u64>,
    /// Some account has come to 0 since this was last looked at.
    emptied: AtomicBool,
    total: u64,
    max_frame: u64,
    /// Guests may not take the last frames: the hypervisor's own needs come first.
    reserve: u64,
    heap_used: AtomicU64,
    heap_frames: AtomicU64,
}

/// The machine's memory is too small for its own description.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooSmall;

impl FrameTable {
    /// Builds the table in memory carved off `map`, and gives the allocator what is usable then.
    /// `nodes` may be empty: one node.
    pub fn new(phys: Phys, map: &mut MemoryMap, nodes: &[NodeRange]) -> Result<Self, TooSmall> {
        let end = map.end().raw().min(phys.frames()).min(entry::NIL as u64);
        let count = end.div_ceil(SECTION_FRAMES as u64) as usize;
        let mut table = Self {
            phys,
            sections: carve_slice(phys, map, count)?,
            zones: [const { None }; MAX_ZONES],
            accounts: carve_slice(phys, map, DOMAINS)?,
            taking: Mutex::new(0),
            emptied: AtomicBool::new(false),
            total: 0,
            max_frame: end.saturating_sub(1),
            reserve: 0,
            heap_used: AtomicU64::new(0),
            heap_frames: AtomicU64::new(0),
        };
        let ram = map.ram().clone();
        for (start, stop) in ram.iter() {
            let stop = stop.min(end);
            if start < stop {
                table.describe(map, start, stop)?;
                table.total += stop - start;
            }
        }
        table.reserve = (table.total / 64).min(512);
        table.add_zones(nodes, end);
        for (start, stop) in map.usable().iter() {
            table.free_own(Mfn::new(start), stop.min(end).saturating_sub(start));
        }
        Ok(table)
    }

    /// Marks RAM as the hypervisor's own, making the sections that it lies in.
    fn describe(&self, map: &mut MemoryMap, start: u64, stop: u64) -> Result<(), TooSmall> {
        for section in start >> SECTION_SHIFT..=(stop - 1) >> SECTION_SHIFT {
            let base = &self.sections[section as usize];
            if base.load(Ordering::Relaxed) == 0 {
                let limit = self.phys.frames().saturating_mul(PAGE_SIZE as u64);
                let at = map.carve(SECTION_TABLE_PAGES, 1, limit).ok_or(TooSmall)?;
                self.phys.zero(at, SECTION_TABLE_PAGES);
                base.store(at.raw() as u32, Ordering::Relaxed);
            }
        }
        let own = State::new(FrameUse::Own, DomainId::XEN);
        self.set_run(Mfn::new(start), stop - start, own);
        Ok(())
    }

    fn add_zones(&mut self, nodes: &[NodeRange], end: u64) {
        let one = [NodeRange {
            start: Mfn::new(0),
            end: Mfn::new(end),
            node: 0,
        }];
        let nodes = if nodes.is_empty() { &one[..] } else { nodes };
        let halves = nodes.iter().flat_map(|n| {
            let (start, end) = (n.start.raw(), n.end.raw());
            [
                (start, end.min(FOUR_GIB), n.node),
                (start.max(FOUR_GIB), end, n.node),
            ]
        });
        let mut slots = self.zones.iter_mut();
        for (start, end, node) in halves.filter(|(start, end, _)| start < end) {
            match slots.next() {
                Some(slot) => *slot = Some(Zone::new(start, end, node)),
                None => log::warn!("too many memory ranges: node {node} loses frames {start:#x}.."),
            }
        }
    }

    fn get_entry(&self, mfn: Mfn) -> Option<&'static Entry> {
        Some(&self.section_of(mfn)?[mfn.raw() as usize % SECTION_FRAMES])
    }

    /// The entries of the section that a frame lies in.
    #[inline(always)]
    fn section_of(&self, mfn: Mfn) -> Option<&'static [Entry]> {
        let section = usize::try_from(mfn.raw() >> SECTION_SHIFT).ok()?;
        let base = self.sections.get(section)?.load(Ordering::Relaxed);
        if base == 0 {
            return None;
        }
        Some(self.phys.slice(Mfn::new(base as u64), SECTION_FRAMES))
    }

    /// How many entries of a run of frames `each` accepts, up to the first that it does not, or a
    /// section without RAM.
    fn count_while(&self, at: Mfn, count: u64, mut each: impl FnMut(&Entry) -> bool) -> u64 {
        let mut done = 0;
        while done < count {
            let part = self.part(Mfn::new(at.raw() + done), count - done);
            let accepted = part.iter().take_while(|entry| each(entry)).count();
            done += accepted as u64;
            if accepted < part.len() || part.is_empty() {
                break;
            }
        }
        done
    }

    /// The entries of a run of frames, as far as its first section goes.
    fn part(&self, at: Mfn, count: u64) -> &'static [Entry] {
        let start = at.raw() as usize % SECTION_FRAMES;
        let len = (SECTION_FRAMES - start).min(count as usize);
        self.section_of(at)
            .map_or(&[], |entries| &entries[start..start + len])
    }

    /// Sets the states of a run of frames, which have to be RAM.
    fn set_run(&self, at: Mfn, count: u64, state: State) {
        let set = self.count_while(at, count, |entry| {
            entry.set(state);
            true
        });
        assert!(set == count, "{at:?} + {set:#x} is not RAM");
    }

    /// The entry of a frame that has to be RAM.
    pub(crate) fn entry(&self, mfn: Mfn) -> &'static Entry {
        match self.get_entry(mfn) {
            Some(entry) => entry,
            None => panic!("{mfn:?} is not RAM"),
        }
    }

    /// The access to the frames' bytes.
    pub fn phys(&self) -> Phys {
        self.phys
    }

    /// The number that the owner of a frame without references keeps beside it.
    pub fn note(&self, mfn: Mfn) -> u32 {
        self.entry(mfn).note()
    }

    /// Keeps a number beside a frame of the hypervisor's own, which has no references.
    pub fn set_note(&self, mfn: Mfn, note: u32) {
        self.entry(mfn).set_note(note);
    }

    /// The present use of the frame; `Free` for all free frames.
    pub fn use_of(&self, mfn: Mfn) -> FrameUse {
        self.get_entry(mfn)
            .map_or(FrameUse::NotRam, Entry::use_seen)
    }

    /// One more than the highest frame number that may be RAM.
    pub fn end(&self) -> Mfn {
        Mfn::new((self.sections.len() as u64) << SECTION_SHIFT)
    }

    /// Whether any frame of the range is RAM (in use or not, the hypervisor's or a guest's).
    pub fn has_ram(&self, first: Mfn, count: u64) -> bool {
        let end = first.raw().saturating_add(count).min(self.end().raw());
        let mut at = first.raw();
        while at < end {
            let section_end = (at | (SECTION_FRAMES as u64 - 1)) + 1;
            if self.get_entry(Mfn::new(at)).is_none() {
                at = section_end;
            } else if self.use_of(Mfn::new(at)) == FrameUse::NotRam {
                at += 1;
            } else {
                return true;
            }
        }
        false
    }

    /// The longest run of frames from `from` on that have one use, and that use: for a memory map
    /// of what is set aside for dom0, and what is not.
    pub fn run(&self, from: Mfn) -> (FrameUse, u64) {
        let used = self.use_of(from);
        let end = self.end().raw();
        let mut at = from.raw().saturating_add(1);
        while at < end && self.use_of(Mfn::new(at)) == used {
            let alike = self.count_while(Mfn::new(at), end - at, |entry| entry.use_seen() == used);
            // A frame without an entry is one step.
            at += alike.max(1);
        }
        (used, at - from.raw())
    }

    fn read_stats(&self) -> MemoryStats {
        MemoryStats {
            total_frames: self.total,
            free_frames: self.free_frames(),
            claimed_frames: self.promised(),
            max_frame: self.max_frame,
            heap_used: self.heap_used.load(Ordering::Relaxed),
            heap_frames: self.heap_frames.load(Ordering::Relaxed),
        }
    }

    fn free_frames(&self) -> u64 {
        self.zones.iter().flatten().map(Zone::free_frames).sum()
    }

    pub(crate) fn reserve(&self) -> u64 {
        self.reserve
    }

    pub(crate) fn heap_used(&self) -> &AtomicU64 {
        &self.heap_used
    }

    pub(crate) fn heap_frames(&self) -> &AtomicU64 {
        &self.heap_frames
    }

    /// The contents of a counted frame.
    fn counted_words(&self, mfn: Mfn) -> &'static PageWords {
        assert!(
            self.use_of(mfn) == FrameUse::Counted,
            "{mfn:?} is not in use"
        );
        self.phys.words(mfn)
    }
}

/// A machine of `frames` frames, all RAM, for tests.
#[cfg(test)]
pub(crate) fn test_table(frames: u64) -> &'static FrameTable {
    use crate::memmap::{FirmwareKind, FirmwareRange};
    let ram = FirmwareRange {
        start: 0,
        len: frames << 12,
        kind: FirmwareKind::Ram,
    };
    let mut map = MemoryMap::new(core::iter::once(ram));
    let table = FrameTable::new(Phys::arena(frames), &mut map, &[]).unwrap();
    alloc::boxed::Box::leak(alloc::boxed::Box::new(table))
}

/// A zeroed array for good, before there is an allocator.
fn carve_slice<T: Shared>(
    phys: Phys,
    map: &mut MemoryMap,
    len: usize,
) -> Result<&'static [T], TooSmall> {
    let pages = (len * size_of::<T>()).div_ceil(PAGE_SIZE).max(1) as u64;
    let limit = phys.frames().saturating_mul(PAGE_SIZE as u64);
    let at = map.carve(pages, 1, limit).ok_or(TooSmall)?;
    phys.zero(at, pages);
    Ok(phys.slice(at, len))
}
