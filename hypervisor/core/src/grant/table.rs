//! The granter's side: the frames it shares with us, and who uses which entry.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use oxen_types::{DomainId, Errno, Gfn, GrantRef, PAGE_SIZE, Result};

use super::{Granted, Status};
use crate::ports::{FrameSource, PageRef};

/// `struct grant_entry_v1`: flags and domid in one word, the frame in the next.
const ENTRY_SIZE: usize = 8;
const ENTRIES: u32 = (PAGE_SIZE / ENTRY_SIZE) as u32;

const TYPE_MASK: u32 = 3;
const PERMIT_ACCESS: u32 = 1;
const READONLY: u32 = 1 << 2;
const READING: u32 = 1 << 3;
const WRITING: u32 = 1 << 4;

/// A guest that changes an entry under our hands more often than this has itself to blame.
const TRIES: usize = 5;

#[derive(Clone, Copy, Default)]
struct Pins {
    all: u32,
    writers: u32,
}

pub(super) struct Table {
    source: &'static dyn FrameSource,
    owner: DomainId,
    frames: Vec<PageRef>,
    /// Where each frame stands in the owner's space.
    places: Vec<Option<Gfn>>,
    pins: Vec<Pins>,
    max_frames: u32,
    none: Option<Gfn>,
}

impl Table {
    pub fn new(source: &'static dyn FrameSource, owner: DomainId, max_frames: u32) -> Result<Self> {
        let (frames, places, pins) = (Vec::new(), Vec::new(), Vec::new());
        let mut table = Self {
            source,
            owner,
            frames,
            places,
            pins,
            max_frames,
            none: None,
        };
        if max_frames > 0 {
            table.frame(0)?;
        }
        Ok(table)
    }

    pub fn size(&self) -> (u32, u32) {
        (self.frames.len() as u32, self.max_frames)
    }

    pub fn pinned(&self) -> usize {
        self.pins.iter().filter(|pins| pins.all > 0).count()
    }

    /// The frame, made with all before it if need be.
    pub fn frame(&mut self, index: u64) -> Result<PageRef> {
        if index >= u64::from(self.max_frames) {
            return Err(Errno::Inval);
        }
        let index = index as usize;
        while self.frames.len() <= index {
            self.frames
                .push(self.source.alloc(self.owner).ok_or(Errno::NoMem)?);
            self.places.push(None);
            self.pins
                .resize(self.frames.len() * ENTRIES as usize, Pins::default());
        }
        self.frames[index].try_clone().ok_or(Errno::NoMem)
    }

    pub fn place(&mut self, index: u64) -> &mut Option<Gfn> {
        let place = usize::try_from(index)
            .ok()
            .and_then(|index| self.places.get_mut(index));
        place.unwrap_or(&mut self.none)
    }

    fn page(&self, grant: GrantRef) -> Granted<&PageRef> {
        self.frames
            .get((grant.0 / ENTRIES) as usize)
            .ok_or(Status::BadRef)
    }

    fn words(&self, grant: GrantRef) -> Granted<(&'static AtomicU32, &'static AtomicU32)> {
        let page = self.page(grant)?;
        let offset = (grant.0 % ENTRIES) as usize * ENTRY_SIZE;
        Ok((page.word(offset), page.word(offset + 4)))
    }

    /// Marks an entry as in use; the frame that it grants.
    pub fn pin(&mut self, grant: GrantRef, user: DomainId, writable: bool) -> Granted<Gfn> {
        let (head, frame) = self.words(grant)?;
        let in_use = if writable { READING | WRITING } else { READING };
        for _ in 0..TRIES {
            let old = head.load(Ordering::SeqCst);
            if old & TYPE_MASK != PERMIT_ACCESS || old >> 16 != u32::from(user.0) {
                return Err(Status::GeneralError);
            }
            if writable && old & READONLY != 0 {
                return Err(Status::GeneralError);
            }
            if head
                .compare_exchange(old, old | in_use, Ordering::SeqCst, Ordering::SeqCst)
                .is_err()
            {
                continue;
            }
            self.page(grant)?.mark_written();
            let pins = self.pins.get_mut(grant.index()).ok_or(Status::BadRef)?;
            let Some(all) = pins.all.checked_add(1) else {
                return Err(Status::NoDeviceSpace);
            };
            pins.all = all;
            pins.writers += u32::from(writable);
            return Ok(Gfn::new(frame.load(Ordering::SeqCst).into()));
        }
        Err(Status::GeneralError)
    }

    /// One use less; the guest may take the grant back when the last is gone.
    pub fn unpin(&mut self, grant: GrantRef, writable: bool) {
        let Some(pins) = self.pins.get_mut(grant.index()) else {
            return;
        };
        pins.all = pins.all.saturating_sub(1);
        pins.writers = pins.writers.saturating_sub(u32::from(writable));
        let mut unused = 0;
        if pins.writers == 0 {
            unused |= WRITING;
        }
        if pins.all == 0 {
            unused |= READING;
        }
        if let (Ok((head, _)), Ok(page)) = (self.words(grant), self.page(grant)) {
            head.fetch_and(!unused, Ordering::SeqCst);
            page.mark_written();
        }
    }

    /// The frames that others may write just now.
    pub fn writable_frames(&self) -> impl Iterator<Item = Gfn> + '_ {
        let used = (0..).zip(&self.pins).filter(|(_, pins)| pins.writers > 0);
        used.filter_map(|(grant, _)| {
            let (_, frame) = self.words(GrantRef(grant)).ok()?;
            Some(Gfn::new(frame.load(Ordering::SeqCst).into()))
        })
    }

    /// Exchanges two entries that nobody uses.
    pub fn swap(&mut self, a: GrantRef, b: GrantRef) -> Granted<()> {
        let ((head_a, frame_a), (head_b, frame_b)) = (self.words(a)?, self.words(b)?);
        if [a, b]
            .iter()
            .any(|grant| self.pins.get(grant.index()).is_none_or(|pins| pins.all > 0))
        {
            return Err(Status::GeneralError);
        }
        let head = head_a.swap(head_b.load(Ordering::SeqCst), Ordering::SeqCst);
        let frame = frame_a.swap(frame_b.load(Ordering::SeqCst), Ordering::SeqCst);
        head_b.store(head, Ordering::SeqCst);
        frame_b.store(frame, Ordering::SeqCst);
        self.page(a)?.mark_written();
        self.page(b)?.mark_written();
        Ok(())
    }

    pub fn clear(&mut self) {
        self.frames.clear();
        self.places.clear();
        self.pins = Vec::new();
        self.max_frames = 0;
    }
}
