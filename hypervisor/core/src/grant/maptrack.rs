//! The mapper's side: a handle for each mapping it holds.

use alloc::vec::Vec;

use oxen_types::{Gfn, Mfn};

use super::{Granted, Pin, Status};
use crate::ports::{MapKind, Mapped};

/// Handles per maptrack frame, as in Xen.
const PER_FRAME: u32 = 128;

/// One mapping of another domain's grant.
pub(super) struct Map {
    pub pin: Pin,
    pub gfn: Gfn,
    pub mfn: Mfn,
}

impl Map {
    pub fn mapped(&self) -> Mapped {
        let kind = MapKind::Grant {
            writable: self.pin.writable,
        };
        Mapped {
            gfn: self.gfn,
            mfn: self.mfn,
            kind,
        }
    }
}

enum Slot {
    Free { next: Option<u32> },
    Taken(Option<Map>),
}

pub(super) struct Maptrack {
    slots: Vec<Slot>,
    free: Option<u32>,
    most: u32,
    used: usize,
}

impl Maptrack {
    pub fn new(max_frames: u32) -> Self {
        Self {
            slots: Vec::new(),
            free: None,
            most: max_frames.saturating_mul(PER_FRAME),
            used: 0,
        }
    }

    pub fn used(&self) -> usize {
        self.used
    }

    /// A handle for a mapping that is being made.
    pub fn reserve(&mut self) -> Granted<u32> {
        let handle = match self.free {
            Some(handle) => {
                if let Some(Slot::Free { next }) = self.slots.get(handle as usize) {
                    self.free = *next;
                }
                self.slots[handle as usize] = Slot::Taken(None);
                handle
            }
            None if (self.slots.len() as u32) < self.most => {
                self.slots.push(Slot::Taken(None));
                self.slots.len() as u32 - 1
            }
            None => return Err(Status::NoDeviceSpace),
        };
        self.used += 1;
        Ok(handle)
    }

    pub fn fill(&mut self, handle: u32, map: Map) {
        if let Some(slot) = self.slots.get_mut(handle as usize) {
            *slot = Slot::Taken(Some(map));
        }
    }

    pub fn release(&mut self, handle: u32) {
        if let Some(slot @ Slot::Taken(_)) = self.slots.get_mut(handle as usize) {
            *slot = Slot::Free { next: self.free };
            self.free = Some(handle);
            self.used -= 1;
        }
    }

    /// Takes a mapping out, if `fits` agrees; its handle is free then.
    pub fn take(&mut self, handle: u32, fits: impl FnOnce(&Map) -> bool) -> Granted<Map> {
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

    pub fn take_any(&mut self) -> Option<Map> {
        while let Some(last) = self.slots.pop() {
            // Free handles go with their slots: the list of them is not used any more.
            if let Slot::Taken(map) = last {
                self.used -= 1;
                if let Some(map) = map {
                    return Some(map);
                }
            }
        }
        self.free = None;
        None
    }
}
