//! What a page fault of a guest without nested paging means: its own, a page for the shadow to hold, or an
//! access to guest-physical memory that has to be looked at.
//!
//! The shadows keep to a TLB's rules (see `oxen_mm::shadow`), and this is their page walker: it walks the guest's tables as
//! they are now, sets accessed and dirty bits as the CPU would (SDM vol. 3, 4.8), and says what the shadow
//! holds from now on. A page is writable there only once it is dirty.

use oxen_types::{Gaddr, Gfn, Mfn, Vaddr};

use crate::backend::NestedFault;
use crate::walk::{self, Access, Found, Paging, PhysRead, Step, WalkError};
use crate::x86::{
    CR0_PG, CR0_WP, CR4_PAE, CR4_PCIDE, CR4_PGE, CR4_PSE, CR4_SMAP, CR4_SMEP, EFER_LMA, EFER_NX,
};

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
    pub gfn: Gfn,
    /// The guest is about to write it.
    pub for_write: bool,
    /// The guest's entries from the root down, accessed and dirty bits set, and how many there are.
    pub entries: [u64; 4],
    pub depth: usize,
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
        let new = step.entry | marks(step, write && n == last);
        if new != step.entry && !space.exchange(step.at, found.entry_size, step.entry, new) {
            return false;
        }
    }
    true
}

/// The bits that a walk sets in an entry.
fn marks(step: &Step, written: bool) -> u64 {
    match (step.bare, written) {
        (true, _) => 0,
        (false, false) => ACCESSED,
        (false, true) => ACCESSED | DIRTY,
    }
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
        gfn: found.place.gpa.frame(),
        for_write: write,
        entries: [0; 4],
        depth: found.steps.iter().flatten().count(),
    };
    for (n, (entry, step)) in (1..).zip(fill.entries.iter_mut().zip(found.steps.iter().flatten())) {
        *entry = step.entry | marks(step, write && n == fill.depth);
    }
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

/// How the guest's tables are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuestTables {
    None,
    Short,
    Pae,
    Long,
}

/// How the guest's tables are read, and the bits of control registers that decide about it.
pub fn tables(paging: &Paging) -> (GuestTables, u16) {
    let on = |register: u64, bit: u64, n: u32| u16::from(register & bit != 0) << n;
    let mode = on(paging.cr0, CR0_PG, 0)
        | on(paging.cr0, CR0_WP, 1)
        | on(paging.cr4, CR4_PSE, 2)
        | on(paging.cr4, CR4_PAE, 3)
        | on(paging.cr4, CR4_PGE, 4)
        | on(paging.cr4, CR4_SMEP, 5)
        | on(paging.cr4, CR4_SMAP, 6)
        | on(paging.efer, EFER_LMA, 7)
        | on(paging.efer, EFER_NX, 8)
        | on(paging.cr4, CR4_PCIDE, 9);
    let tables = if paging.cr0 & CR0_PG == 0 {
        GuestTables::None
    } else if paging.efer & EFER_LMA != 0 {
        GuestTables::Long
    } else if paging.cr4 & CR4_PAE != 0 {
        GuestTables::Pae
    } else {
        GuestTables::Short
    };
    (tables, mode)
}

#[cfg(test)]
pub(crate) mod tests;
