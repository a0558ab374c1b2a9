//! The traits by which shadows use and notify the rest of the hypervisor.

use oxen_core::seams::GuestMemory;
use oxen_types::paging::GuestPage;
use oxen_types::{Gaddr, Gfn};

use crate::walk::PhysRead;

/// Guest-physical memory, as far as a shadow needs it.
pub trait ShadowSpace: PhysRead {
    /// Changes an entry of the guest's tables, of `size` bytes. False if the entry is not `old` any
    /// more.
    fn exchange(&self, at: Gaddr, size: u8, old: u64, new: u64) -> bool;
    /// The page at a gfn; `None` if there is none.
    fn page(&self, gfn: Gfn) -> Option<GuestPage>;
}

impl ShadowSpace for dyn GuestMemory + '_ {
    fn exchange(&self, at: Gaddr, size: u8, old: u64, new: u64) -> bool {
        GuestMemory::exchange(self, at, size, old, new).unwrap_or(false)
    }

    fn page(&self, gfn: Gfn) -> Option<GuestPage> {
        self.mapping(gfn)
    }
}

/// The flushes of a domain's p2m. Each change raises a generation, is noted, and makes all vcpus
/// leave the guest, in this order.
pub trait P2mFlush {
    /// The generation now.
    fn generation(&self) -> u64;
    /// Calls `each` for the changes after a generation, the youngest not always last. False if some
    /// of them are not known any more.
    fn changes_since(&self, generation: u64, each: &mut dyn FnMut(Change)) -> bool;
    /// Makes each CPU that is inside the guest leave it. Returns when all have left.
    fn expel(&self);
}

/// The change that raised a p2m's generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// The entry of one page of RAM.
    Page(Gfn),
    /// Perhaps all entries.
    Many,
    /// None of the p2m: the guest's own tables may have changed.
    Guest,
}

/// The cache's work so far.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counts {
    /// Pages put into a shadow.
    pub fills: u64,
    /// Shadows made.
    pub made: u64,
    /// Shadows that went to make room, or as nothing links to them.
    pub evicted: u64,
    /// Times that all was forgotten.
    pub resets: u64,
    /// Changes of the p2m after which not all was forgotten.
    pub changed: u64,
    /// Tables protected.
    pub protected: u64,
    /// Tables made loose again.
    pub loosened: u64,
    /// Entries that a comparison found changed.
    pub dropped: u64,
    /// Shadows and entries looked at.
    pub steps: u64,
}
