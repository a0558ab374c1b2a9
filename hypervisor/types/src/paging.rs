//! Words of paging that several crates share: the walk of guests' tables, shadows, the p2m and the
//! back ends.

use crate::{Gaddr, Maddr, Mfn};

/// The format of a guest's own page tables (SDM volume 3, 4.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PagingMode {
    /// No paging: the first 4 GiB of linear addresses are guest-physical ones.
    Off,
    /// 32-bit paging: two levels of 4-byte entries.
    Bits32,
    /// PAE paging: three levels of 8-byte entries; the four entries of the top level have no
    /// rights.
    Pae,
    /// 4-level paging, in long mode.
    Long,
}

/// A page of guest-physical memory, as the CPU's tables have to map it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestPage {
    /// The frame behind the page.
    pub mfn: Mfn,
    /// The page is part of 2 MiB of memory that are aligned in both spaces and have the same
    /// rights.
    pub large: bool,
    /// The guest may write it.
    pub write: bool,
    /// The guest may fetch instructions from it.
    pub exec: bool,
    /// The memory is write-back; if not, uncached.
    pub cached: bool,
}

/// An access to guest-physical memory that the p2m does not allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NestedFault {
    /// The guest-physical address that was accessed.
    pub gpa: Gaddr,
    /// The access was a write.
    pub write: bool,
    /// The access was an instruction fetch.
    pub fetch: bool,
    /// A translation is there; its rights were not enough.
    pub present: bool,
    /// The walk of the guest's own page tables faulted, not the access itself.
    pub table_walk: bool,
}

/// The roots of a vcpu's shadow page tables, which the CPU's CR3 holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShadowRoots {
    /// The four levels, for a guest in long mode.
    pub long: Maddr,
    /// The three levels, for a guest in any other mode; below 4 GiB.
    pub pae: Maddr,
}
