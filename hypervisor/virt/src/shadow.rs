//! What a page fault of a guest without nested paging means: its own, a page for the shadow to hold, or an
//! access to guest-physical memory that has to be looked at.
//!
//! The shadow is a TLB (see `oxen_mm::shadow`), and this is its page walker: it walks the guest's tables as
//! they are now, sets accessed and dirty bits as the CPU would (SDM vol. 3, 4.8), and says what the TLB
//! holds from now on. A page is writable there only once it is dirty.

use oxen_types::{Gaddr, Gfn, Mfn, Vaddr};

use crate::backend::NestedFault;
use crate::walk::{self, Access, Found, Paging, PhysRead, WalkError};
use crate::x86::{CR0_PG, CR0_WP, CR4_SMEP};

/// Guest-physical memory, as far as a shadow needs it.
pub trait ShadowSpace: PhysRead {
    /// Changes an entry of the guest's tables if it still is `old`.
    fn exchange(&self, at: Gaddr, size: u8, old: u64, new: u64) -> bool;
    fn page(&self, gfn: Gfn) -> Option<GuestPage>;
}

/// What stands at a gfn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestPage {
    pub mfn: Mfn,
    /// It is part of a page of 2 MiB, aligned in both spaces.
    pub large: bool,
    pub write: bool,
    pub exec: bool,
    pub cached: bool,
}

/// A page for the shadow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fill {
    /// Linear address / 4096.
    pub linear: u64,
    pub mfn: Mfn,
    pub large: bool,
    /// The size of the guest's own page, as a power of two.
    pub shift: u32,
    pub user: bool,
    pub write: bool,
    pub exec: bool,
    pub cached: bool,
    pub global: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    Fill(Fill),
    /// The guest's own fault, with this error code.
    Guest(u32),
    /// The guest's tables lead to where memory does not allow the access.
    Memory(NestedFault),
    /// The tables changed under our hands: the access is tried again.
    Retry,
}

const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE_SHIFT: u32 = 21;
/// Numbers of linear pages: 48 bits of address.
const LINEAR_PAGES: u64 = (1 << 36) - 1;

/// A fault at a linear address with the CPU's error code.
pub fn fault(
    space: &(impl ShadowSpace + ?Sized),
    paging: &Paging,
    linear: Vaddr,
    code: u32,
) -> Answer {
    let access = Access::from_bits_truncate(code);
    let found = match walk::find(space, paging, linear, access) {
        Ok(found) => found,
        Err(WalkError::Fault { code }) => return Answer::Guest(code),
        // The CPU raised a page fault, so the address was canonical then.
        Err(WalkError::NotCanonical) => return Answer::Retry,
        // A table that is not in RAM reads as ones there: a reserved bit is set.
        Err(WalkError::BadTable(_) | WalkError::Unsupported) => {
            const PRESENT_RESERVED: u32 = 1 | 1 << 3;
            return Answer::Guest(code & access_mask() | PRESENT_RESERVED);
        }
    };
    if let Err(code) = found.check(paging, access) {
        return Answer::Guest(code);
    }
    let write = access.contains(Access::WRITE);
    if !mark(space, &found, write) {
        return Answer::Retry;
    }
    let gpa = found.place.gpa;
    let refuse = |present| {
        Answer::Memory(NestedFault {
            gpa,
            write,
            fetch: access.contains(Access::FETCH),
            present,
            table_walk: false,
        })
    };
    let Some(page) = space.page(gpa.frame()) else {
        return refuse(false);
    };
    if (write && !page.write) || (access.contains(Access::FETCH) && !page.exec) {
        return refuse(true);
    }
    Answer::Fill(fill(paging, linear, access, &found, &page))
}

fn access_mask() -> u32 {
    Access::all().bits()
}

/// Sets the accessed bits of all entries, and the page's dirty bit. False if one of them changed.
fn mark(space: &(impl ShadowSpace + ?Sized), found: &Found, write: bool) -> bool {
    let last = found.steps.iter().flatten().count();
    for (n, step) in (1..).zip(found.steps.iter().flatten()) {
        let dirty = if write && n == last { DIRTY } else { 0 };
        let new = step.entry | ACCESSED | dirty;
        if new != step.entry
            && !step.bare
            && !space.exchange(step.at, found.entry_size, step.entry, new)
        {
            return false;
        }
    }
    true
}

fn fill(paging: &Paging, linear: Vaddr, access: Access, found: &Found, page: &GuestPage) -> Fill {
    let write = access.contains(Access::WRITE);
    let is_dirty = match found.steps.iter().flatten().last() {
        Some(step) => write || step.entry & DIRTY != 0,
        None => true,
    };
    let mut fill = Fill {
        linear: (linear.raw() >> 12) & LINEAR_PAGES,
        mfn: page.mfn,
        large: page.large && found.shift >= LARGE_SHIFT,
        shift: found.shift,
        user: found.user(),
        write: found.writable() && is_dirty && page.write,
        exec: found.executable() && page.exec,
        cached: page.cached,
        global: found.global,
    };
    // The CPU always protects from the kernel's writes too, as our own reasons to forbid them need it. A
    // guest that does not (CR0.WP = 0) gets the page it writes as the kernel's, until its user's next access.
    let kernel_writes = write && !access.contains(Access::USER) && !found.writable();
    if kernel_writes && paging.cr0 & (CR0_WP | CR0_PG) == CR0_PG {
        fill.write = page.write;
        fill.exec &= !(fill.user && paging.cr4 & CR4_SMEP != 0);
        fill.user = false;
    }
    fill
}

#[cfg(test)]
mod tests;
