//! A frame table over leaked pages: who owns each frame and how many references it has.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::boxed::Box;
use std::sync::Mutex;
use std::vec::Vec;

use oxen_types::{DomainId, Mfn, PAGE_SIZE};

use super::heap::{self, Locked};
use crate::seams::{Claimant, FrameSource, MemoryStats, PageRef, PageWords};

#[derive(Clone, Copy)]
struct Slot {
    refs: u32,
    owner: Option<DomainId>,
    words: Option<&'static PageWords>,
    written: bool,
}

pub struct FakeFrames {
    slots: Mutex<Vec<Slot>>,
    /// Memory is so short that guests get none of the hypervisor's own.
    pub tight: AtomicBool,
    flushes: AtomicU32,
    /// Some frame has become free.
    emptied: AtomicBool,
}

impl FakeFrames {
    pub fn new(count: usize) -> Self {
        let free = Slot {
            refs: 0,
            owner: None,
            words: None,
            written: false,
        };
        Self {
            slots: Mutex::new(std::vec![free; count]),
            tight: AtomicBool::new(false),
            flushes: AtomicU32::new(0),
            emptied: AtomicBool::new(false),
        }
    }

    fn slots(&self) -> Locked<'_, Vec<Slot>> {
        heap::lock(&self.slots)
    }

    /// How often guests' translations were flushed.
    pub fn flushes(&self) -> u32 {
        self.flushes.load(Ordering::SeqCst)
    }

    pub(super) fn count_flush(&self) {
        self.flushes.fetch_add(1, Ordering::SeqCst);
    }

    /// A zeroed frame with one reference, as its number.
    pub fn take(&self, owner: DomainId) -> Option<Mfn> {
        let mut slots = self.slots();
        // Frame 0 is never used, so that a forgotten number shows.
        let index = (1..slots.len()).find(|&i| slots[i].refs == 0)?;
        let words = slots[index]
            .words
            .get_or_insert_with(|| Box::leak(Box::new([const { AtomicU32::new(0) }; 1024])));
        words.iter().for_each(|w| w.store(0, Ordering::SeqCst));
        slots[index].refs = 1;
        slots[index].written = false;
        slots[index].owner = Some(owner);
        Some(Mfn::new(index as u64))
    }

    /// Was the frame written past its owner's page tables? `clean`: from now on not.
    pub fn written(&self, mfn: Mfn, clean: bool) -> bool {
        let slot = &mut self.slots()[mfn.raw() as usize];
        let written = slot.written;
        slot.written &= !clean;
        written
    }

    pub fn refs(&self, mfn: Mfn) -> u32 {
        self.slots()[mfn.raw() as usize].refs
    }

    /// Frames that a domain owns, whoever holds them.
    pub fn owned_by(&self, owner: DomainId) -> usize {
        self.slots()
            .iter()
            .filter(|s| s.owner == Some(owner))
            .count()
    }
}

impl FrameSource for FakeFrames {
    fn alloc(&'static self, owner: DomainId) -> Option<PageRef> {
        self.take(owner).map(|mfn| PageRef::adopt(self, mfn))
    }

    fn get(&self, mfn: Mfn) -> bool {
        let mut slots = self.slots();
        match slots.get_mut(mfn.raw() as usize) {
            Some(slot) if slot.refs > 0 => {
                slot.refs += 1;
                true
            }
            _ => false,
        }
    }

    fn put(&self, mfn: Mfn) {
        let mut slots = self.slots();
        let slot = &mut slots[mfn.raw() as usize];
        assert!(slot.refs > 0, "{mfn:?} has no reference to give back");
        slot.refs -= 1;
        if slot.refs == 0 {
            slot.owner = None;
            self.emptied.store(true, Ordering::SeqCst);
        }
    }

    fn owner(&self, mfn: Mfn) -> Option<DomainId> {
        self.slots().get(mfn.raw() as usize)?.owner
    }

    fn words(&self, mfn: Mfn) -> &'static PageWords {
        let slot = self.slots()[mfn.raw() as usize];
        assert!(slot.refs > 0, "{mfn:?} is used without a reference");
        slot.words.expect("a used frame has contents")
    }

    fn read(&self, mfn: Mfn, offset: usize, into: &mut [u8]) {
        let words = self.words(mfn);
        for (at, byte) in (offset..PAGE_SIZE).zip(into) {
            *byte = words[at / 4].load(Ordering::SeqCst).to_le_bytes()[at % 4];
        }
    }

    fn write(&self, mfn: Mfn, offset: usize, from: &[u8]) {
        let words = self.words(mfn);
        for (at, byte) in (offset..PAGE_SIZE).zip(from) {
            let mut word = words[at / 4].load(Ordering::SeqCst).to_le_bytes();
            word[at % 4] = *byte;
            words[at / 4].store(u32::from_le_bytes(word), Ordering::SeqCst);
        }
    }

    fn copy(&self, dst: Mfn, dst_offset: usize, src: Mfn, src_offset: usize, len: usize) {
        let room = |offset: usize| PAGE_SIZE.saturating_sub(offset);
        let len = len.min(room(dst_offset)).min(room(src_offset));
        let _quiet = heap::quiet();
        let mut bytes = std::vec![0; len];
        self.read(src, src_offset, &mut bytes);
        self.write(dst, dst_offset, &bytes);
    }

    fn mark_written(&self, mfn: Mfn) {
        self.slots()[mfn.raw() as usize].written = true;
    }

    fn held_by(&self, owner: DomainId) -> u64 {
        self.owned_by(owner) as u64
    }

    fn take_emptied(&self) -> bool {
        self.emptied.swap(false, Ordering::SeqCst)
    }

    fn has_room(&self, who: Claimant) -> bool {
        who == Claimant::Privileged || !self.tight.load(Ordering::Relaxed)
    }

    fn stats(&self) -> MemoryStats {
        let slots = self.slots();
        MemoryStats {
            total_frames: slots.len() as u64,
            free_frames: slots.iter().skip(1).filter(|s| s.refs == 0).count() as u64,
            claimed_frames: 0,
            max_frame: slots.len() as u64 - 1,
            heap_used: 0,
            heap_frames: 0,
        }
    }
}
