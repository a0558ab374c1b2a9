//! The granter's side: the frames it shares with us, and who uses which entry.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use guest_pv_abi as abi;
use oxen_types::{DomainId, Errno, Gfn, GrantRef, PAGE_SIZE, Result};

use super::{Granted, Status};
use crate::fallible::{self, Account, Paged};
use crate::seams::{FrameSource, PageRef};

/// `struct grant_entry_v1`: flags and domid in one word, the frame in the next.
const ENTRY_SIZE: usize = size_of::<abi::GrantEntryV1>();
const ENTRIES: u32 = (PAGE_SIZE / ENTRY_SIZE) as u32;

/// Flags of an entry's first word.
const TYPE_MASK: u32 = abi::GTF_TYPE_MASK as u32;
const PERMIT_ACCESS: u32 = abi::GTF_PERMIT_ACCESS as u32;
const READONLY: u32 = abi::GTF_READONLY as u32;
const READING: u32 = abi::GTF_READING as u32;
const WRITING: u32 = abi::GTF_WRITING as u32;

/// A guest that changes an entry under our hands more often than this has itself to blame.
const TRIES: usize = 5;

#[derive(Clone, Copy, Default)]
struct Pins {
    all: u32,
    writers: u32,
}

/// Bytes of the pins of one frame.
const PINS_SIZE: usize = ENTRIES as usize * size_of::<Pins>();
const _: () = assert!(PINS_SIZE <= PAGE_SIZE);

/// One frame of the table, and what is known of its entries.
struct Frame {
    page: PageRef,
    /// Where it stands in the owner's space.
    place: Option<Gfn>,
    pins: Vec<Pins>,
    /// Entries that others may write through.
    written: u32,
}

impl Frame {
    fn words(&self, grant: GrantRef) -> (&AtomicU32, &AtomicU32) {
        let offset = (grant.0 % ENTRIES) as usize * ENTRY_SIZE;
        (self.page.word(offset), self.page.word(offset + 4))
    }

    fn pins(&mut self, grant: GrantRef) -> Option<&mut Pins> {
        self.pins.get_mut((grant.0 % ENTRIES) as usize)
    }
}

pub(super) struct Table {
    source: &'static dyn FrameSource,
    owner: DomainId,
    frames: Paged<Option<Frame>>,
    count: u32,
    max_frames: u32,
    pinned: usize,
}

impl Table {
    pub(super) fn new(
        source: &'static dyn FrameSource,
        account: &Account,
        owner: DomainId,
        max_frames: u32,
    ) -> Result<Self> {
        let mut table = Self {
            source,
            owner,
            frames: Paged::new(max_frames as usize),
            count: 0,
            max_frames,
            pinned: 0,
        };
        if max_frames > 0 {
            table.frame(account, 0)?;
        }
        Ok(table)
    }

    /// Pages of the heap that a table of so many frames takes: their pins, and what is known of
    /// each.
    pub(super) fn pages(max_frames: usize) -> usize {
        max_frames + max_frames.div_ceil(Paged::<Option<Frame>>::LEAF)
    }

    pub(super) fn size(&self) -> (u32, u32) {
        (self.count, self.max_frames)
    }

    /// Entries in use by others.
    pub(super) fn pinned(&self) -> usize {
        self.pinned
    }

    /// The frame, made with all before it if need be.
    pub(super) fn frame(&mut self, account: &Account, index: u64) -> Result<PageRef> {
        if index >= u64::from(self.max_frames) {
            return Err(Errno::Inval);
        }
        while u64::from(self.count) <= index {
            self.add_frame(account)?;
        }
        let frame = self.frames.get(index as usize).and_then(Option::as_ref);
        frame.and_then(|f| f.page.try_clone()).ok_or(Errno::NoMem)
    }

    fn add_frame(&mut self, account: &Account) -> Result<()> {
        let at = self.count as usize;
        self.frames.ensure(at, account, || None)?;
        let place = self.frames.get_mut(at).ok_or(Errno::NoMem)?;
        account.charge(PINS_SIZE)?;
        let pins = fallible::filled(ENTRIES as usize, Pins::default);
        let made = pins.and_then(|pins| {
            let page = self.source.alloc(self.owner).ok_or(Errno::NoMem)?;
            Ok(Frame {
                page,
                place: None,
                pins,
                written: 0,
            })
        });
        *place = Some(made.inspect_err(|_| account.refund(PINS_SIZE))?);
        self.count += 1;
        Ok(())
    }

    /// Where a frame stands in the owner's space.
    pub(super) fn place(&self, index: u64) -> Option<Gfn> {
        let index = usize::try_from(index).ok()?;
        self.frames.get(index)?.as_ref()?.place
    }

    /// Notes that the frame stands at `gfn` from now on. Returns where it stood before.
    pub(super) fn set_place(&mut self, index: u64, gfn: Gfn) -> Option<Gfn> {
        let index = usize::try_from(index).ok()?;
        self.frames.get_mut(index)?.as_mut()?.place.replace(gfn)
    }

    fn look_at(&self, grant: GrantRef) -> Granted<&Frame> {
        let frame = self.frames.get((grant.0 / ENTRIES) as usize);
        frame.and_then(Option::as_ref).ok_or(Status::BadRef)
    }

    fn frame_of(&mut self, grant: GrantRef) -> Granted<&mut Frame> {
        let frame = self.frames.get_mut((grant.0 / ENTRIES) as usize);
        frame.and_then(Option::as_mut).ok_or(Status::BadRef)
    }

    /// Marks an entry as in use; the frame that it grants.
    pub(super) fn pin(&mut self, grant: GrantRef, user: DomainId, writable: bool) -> Granted<Gfn> {
        let table_frame = self.frame_of(grant)?;
        let (head, frame) = table_frame.words(grant);
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
            table_frame.page.mark_written();
            let granted = Gfn::new(frame.load(Ordering::SeqCst).into());
            let pins = table_frame.pins(grant).ok_or(Status::BadRef)?;
            let all = pins.all.checked_add(1).ok_or(Status::NoSpace)?;
            pins.all = all;
            pins.writers += u32::from(writable);
            let (first, first_writer) = (all == 1, writable && pins.writers == 1);
            table_frame.written += u32::from(first_writer);
            self.pinned += usize::from(first);
            return Ok(granted);
        }
        Err(Status::GeneralError)
    }

    /// One use less; the guest may take the grant back when the last is gone.
    pub(super) fn unpin(&mut self, grant: GrantRef, writable: bool) {
        // A table that was torn down has forgotten its pins.
        let Ok(frame) = self.frame_of(grant) else {
            return;
        };
        let Some(pins) = frame.pins(grant) else {
            return;
        };
        let before = *pins;
        pins.all = pins.all.saturating_sub(1);
        pins.writers = pins.writers.saturating_sub(u32::from(writable));
        let (last, last_writer) = (
            before.all > 0 && pins.all == 0,
            before.writers > 0 && pins.writers == 0,
        );
        let mut unused = 0;
        if pins.writers == 0 {
            unused |= WRITING;
        }
        if pins.all == 0 {
            unused |= READING;
        }
        frame.written -= u32::from(last_writer);
        let (head, _) = frame.words(grant);
        head.fetch_and(!unused, Ordering::SeqCst);
        frame.page.mark_written();
        self.pinned -= usize::from(last);
    }

    /// The pages of one of the table's frames that others may write just now. `None` past the last
    /// frame.
    pub(super) fn writable_pages(&self, index: u32) -> Option<impl Iterator<Item = Gfn> + '_> {
        let frame = self.frames.get(index as usize)?.as_ref()?;
        let pins: &[Pins] = if frame.written > 0 { &frame.pins } else { &[] };
        let used = (0..).zip(pins).filter(|(_, pins)| pins.writers > 0);
        Some(used.map(|(entry, _)| {
            let (_, word) = frame.words(GrantRef(entry));
            Gfn::new(word.load(Ordering::SeqCst).into())
        }))
    }

    /// Exchanges two entries that nobody uses.
    pub(super) fn swap(&mut self, a: GrantRef, b: GrantRef) -> Granted<()> {
        let (first, second) = (self.look_at(a)?, self.look_at(b)?);
        for (frame, grant) in [(first, a), (second, b)] {
            let pins = frame.pins.get((grant.0 % ENTRIES) as usize);
            if pins.is_none_or(|pins| pins.all > 0) {
                return Err(Status::Again);
            }
        }
        let (first_head, first_frame) = first.words(a);
        let (second_head, second_frame) = second.words(b);
        let head = first_head.swap(second_head.load(Ordering::SeqCst), Ordering::SeqCst);
        let frame = first_frame.swap(second_frame.load(Ordering::SeqCst), Ordering::SeqCst);
        second_head.store(head, Ordering::SeqCst);
        second_frame.store(frame, Ordering::SeqCst);
        first.page.mark_written();
        second.page.mark_written();
        Ok(())
    }

    pub(super) fn clear(&mut self, account: &Account) {
        self.frames.clear(account);
        account.refund(self.count as usize * PINS_SIZE);
        (self.count, self.max_frames, self.pinned) = (0, 0, 0);
    }
}
