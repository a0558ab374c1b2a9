//! The mapper's side: a handle for each mapping it holds.

use oxen_types::{Gfn, Mfn};

use super::{Granted, Pin, Status};
use crate::fallible::{Account, Paged};
use crate::seams::{FrameSource, MapKind, Mapped, PageRef};

/// Handles per maptrack frame, as in Xen.
const PER_FRAME: usize = 128;

/// No frame of a guest's has this number.
const NOWHERE: Gfn = Gfn::new(u64::MAX);

/// One mapping of another domain's grant.
pub(super) struct Map {
    pin: Pin,
    /// Where it stands in the mapper's space, which holds the reference; or `NOWHERE`: a device's
    /// map alone was asked for, and the reference is this mapping's own.
    gfn: Gfn,
    pub mfn: Mfn,
}

impl Map {
    /// The page stands at `gfn`.
    pub(super) fn at(pin: Pin, gfn: Gfn, mfn: Mfn) -> Self {
        Self { pin, gfn, mfn }
    }

    /// The page is held, and stands nowhere.
    pub(super) fn held(pin: Pin, page: PageRef) -> Self {
        Self::at(pin, NOWHERE, page.into_mfn())
    }

    /// The part of it that stands in the mapper's space.
    pub(super) fn mapped(&self) -> Option<Mapped> {
        let kind = MapKind::Grant {
            writable: self.pin.writable,
        };
        let (gfn, mfn) = (self.gfn, self.mfn);
        (gfn != NOWHERE).then_some(Mapped { gfn, mfn, kind })
    }

    /// Does an unmap that names this place mean it? One that stands nowhere is named by address 0.
    pub(super) fn is_named_by(&self, gfn: Gfn) -> bool {
        self.gfn == gfn || (self.gfn == NOWHERE && gfn == Gfn::new(0))
    }

    /// Ends the mapping, which is in nobody's space any more: the granter learns of it.
    pub(super) fn end(self, frames: &'static dyn FrameSource) {
        if self.gfn == NOWHERE {
            drop(PageRef::adopt(frames, self.mfn));
        }
        self.pin.release();
    }
}

enum Slot {
    Free { next: Option<u32> },
    Taken(Option<Map>),
}

// As many handles as Xen has in a frame fit into a page here.
const _: () = assert!(Paged::<Slot>::LEAF == PER_FRAME);

pub(super) struct Maptrack {
    slots: Paged<Slot>,
    /// Slots that were ever used; teardown counts them down.
    end: u32,
    free: Option<u32>,
    used: usize,
}

impl Maptrack {
    pub(super) fn new(max_frames: u32) -> Self {
        Self {
            slots: Paged::new((max_frames as usize).saturating_mul(PER_FRAME)),
            end: 0,
            free: None,
            used: 0,
        }
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// A handle for a mapping that is being made.
    pub(super) fn reserve(&mut self, account: &Account) -> Granted<u32> {
        let handle = self.free.unwrap_or(self.end);
        let at = handle as usize;
        let no_room = Status::NoSpace;
        let none = || Slot::Free { next: None };
        self.slots.ensure(at, account, none).map_err(|_| no_room)?;
        let slot = self.slots.get_mut(at).ok_or(no_room)?;
        if let Slot::Free { next } = slot {
            self.free = *next;
        }
        *slot = Slot::Taken(None);
        self.end = self.end.max(handle + 1);
        self.used += 1;
        Ok(handle)
    }

    pub(super) fn fill(&mut self, handle: u32, map: Map) {
        if let Some(slot) = self.slots.get_mut(handle as usize) {
            *slot = Slot::Taken(Some(map));
        }
    }

    pub(super) fn release(&mut self, handle: u32) {
        if let Some(slot @ Slot::Taken(_)) = self.slots.get_mut(handle as usize) {
            *slot = Slot::Free { next: self.free };
            self.free = Some(handle);
            self.used -= 1;
        }
    }

    /// Takes a mapping out, if `fits` agrees; its handle is free then.
    pub(super) fn take(&mut self, handle: u32, fits: impl FnOnce(&Map) -> bool) -> Granted<Map> {
        let Some(Slot::Taken(taken)) = self.slots.get_mut(handle as usize) else {
            return Err(Status::BadHandle);
        };
        if !taken.as_ref().is_some_and(fits) {
            return Err(Status::BadHandle);
        }
        let map = taken.take().ok_or(Status::BadHandle)?;
        self.release(handle);
        Ok(map)
    }

    /// Ends with the slots: the mapping in the last of them, if one is there. `Err` when none is
    /// left, and the memory has been given back.
    pub(super) fn take_last(&mut self, account: &Account) -> Result<Option<Map>, ()> {
        let Some(last) = self.end.checked_sub(1) else {
            (self.free, self.used) = (None, 0);
            self.slots.clear(account);
            return Err(());
        };
        self.end = last;
        // Free handles go with their slots: the list of them is not used any more.
        self.free = None;
        let slot = self.slots.get_mut(last as usize);
        let taken = slot.map(|slot| core::mem::replace(slot, Slot::Free { next: None }));
        match taken {
            Some(Slot::Taken(map)) => {
                self.used -= 1;
                Ok(map)
            }
            _ => Ok(None),
        }
    }
}
