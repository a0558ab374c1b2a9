//! Reference counts, and the port through which the rest of the hypervisor sees frames.

use core::sync::atomic::Ordering;

use oxen_core::seams::{Claimant, FrameSource, MemoryStats, PageRef, PageWords};
use oxen_types::{DomainId, Mfn};

use super::FrameTable;
use super::blocks::block;
use super::buddy;
use super::entry::{FrameUse, State};

/// A guest can add references (grants, mappings), so their number is limited well below overflow.
const MAX_REFERENCES: u32 = 1 << 30;

/// The state of a frame after one reference was dropped.
enum Put {
    StillUsed,
    /// The state is `Free`, and it is in no list yet.
    Freed,
    SetAside,
}

impl FrameTable {
    /// Drops one reference to each frame of a run, and frees together what becomes free together.
    pub(crate) fn put_run(&self, at: Mfn, count: u64) {
        let mut run = at.raw();
        for mfn in block(at, count) {
            if !matches!(self.put_one(mfn), Put::Freed) {
                self.free_run(Mfn::new(run), mfn.raw() - run);
                run = mfn.raw() + 1;
            }
        }
        self.free_run(Mfn::new(run), at.raw() + count - run);
    }

    fn put_one(&self, mfn: Mfn) -> Put {
        let entry = self.entry(mfn);
        loop {
            let state = entry.state();
            let references = state.references();
            let counted = state.used() == FrameUse::Counted && references > 0;
            assert!(counted, "{mfn:?} has no reference to give back");
            if references > 1 {
                if entry.change(state, state.with_references(references - 1)) {
                    return Put::StillUsed;
                }
                continue;
            }
            let next = match state.is_identity() {
                true => State::new(FrameUse::SetAside, state.owner()),
                false => buddy::FREE,
            };
            if entry.change(state, next) {
                self.let_go(state.owner(), state.is_ram(), 1);
                return if state.is_identity() {
                    Put::SetAside
                } else {
                    Put::Freed
                };
            }
        }
    }

    /// Was a frame in use written past its owner's page tables? `clean`: from now on not.
    pub(crate) fn written(&self, mfn: Mfn, clean: bool) -> bool {
        let entry = self.entry(mfn);
        if clean {
            entry.take_written()
        } else {
            entry.is_written()
        }
    }

    /// Whether the frame is RAM that is charged to `owner`.
    pub(crate) fn is_ram_of(&self, mfn: Mfn, owner: DomainId) -> bool {
        self.get_entry(mfn).is_some_and(|entry| {
            let state = entry.state();
            state.used() == FrameUse::Counted && state.is_ram() && state.owner() == owner
        })
    }
}

impl FrameSource for FrameTable {
    fn alloc(&'static self, owner: DomainId) -> Option<PageRef> {
        let mfn = self.alloc_counted(owner)?;
        Some(PageRef::adopt(self, mfn))
    }

    fn get(&self, mfn: Mfn) -> bool {
        let Some(entry) = self.get_entry(mfn) else {
            return false;
        };
        loop {
            let state = entry.state();
            let references = state.references();
            if state.used() != FrameUse::Counted || references >= MAX_REFERENCES {
                return false;
            }
            if entry.change(state, state.with_references(references + 1)) {
                return true;
            }
        }
    }

    fn put(&self, mfn: Mfn) {
        self.put_run(mfn, 1);
    }

    fn owner(&self, mfn: Mfn) -> Option<DomainId> {
        let state = self.get_entry(mfn)?.state();
        match state.used() {
            FrameUse::Counted => Some(state.owner()),
            FrameUse::Own => Some(DomainId::XEN),
            _ => None,
        }
    }

    fn words(&self, mfn: Mfn) -> &'static PageWords {
        self.counted_words(mfn)
    }

    fn read(&self, mfn: Mfn, offset: usize, into: &mut [u8]) {
        self.phys.read(mfn, offset, into);
    }

    fn write(&self, mfn: Mfn, offset: usize, from: &[u8]) {
        self.phys.write(mfn, offset, from);
    }

    fn copy(&self, dst: Mfn, dst_offset: usize, src: Mfn, src_offset: usize, len: usize) {
        self.phys.copy(dst, dst_offset, src, src_offset, len);
    }

    fn mark_written(&self, mfn: Mfn) {
        self.entry(mfn).mark_written();
    }

    fn held_by(&self, owner: DomainId) -> u64 {
        FrameTable::held_by(self, owner)
    }

    fn take_emptied(&self) -> bool {
        self.emptied.load(Ordering::Relaxed) && self.emptied.swap(false, Ordering::AcqRel)
    }

    fn stats(&self) -> MemoryStats {
        self.read_stats()
    }

    fn has_room(&self, who: Claimant) -> bool {
        // What guests' configurations ask for leaves all of the reserve.
        let left = match who {
            Claimant::Guest => self.promised() + self.reserve / 2,
            Claimant::Privileged => self.reserve / 4,
        };
        self.free_frames() > left
    }
}
