//! The meaning of a page fault of a guest without nested paging: a fault of the guest's own, a page
//! for the shadow to hold, or an access to guest-physical memory that the p2m does not allow.
//!
//! Shadows keep to a TLB's rules (see `cache`), and this is their page walker. It walks the guest's
//! tables as they are now, sets accessed and dirty bits as the CPU would (SDM volume 3, 4.8), and
//! returns what the shadow holds from now on. A page is writable there only once it is dirty.

use oxen_types::paging::{GuestPage, NestedFault};
use oxen_types::{Gfn, Vaddr};

use super::ShadowSpace;
use crate::bits::{
    CR0_PG, CR0_WP, CR4_PAE, CR4_PCIDE, CR4_PGE, CR4_PSE, CR4_SMAP, CR4_SMEP, EFER_LMA, EFER_NX,
};
use crate::walk::{self, Access, Found, Paging, Step, WalkError};

/// A page for the shadow to hold, and the way to it through the guest's tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fill {
    /// Linear address / 4096.
    pub linear: u64,
    /// The page's number in the guest's memory.
    pub gfn: Gfn,
    /// The page with the rights that the shadow may give; `large` only if the guest's own page is
    /// large, too.
    pub page: GuestPage,
    /// User code may access the page.
    pub user: bool,
    /// The page is global.
    pub global: bool,
    /// The guest is about to write the page.
    pub for_write: bool,
    /// The guest's entries from the root down, with accessed and dirty bits set; the last is the
    /// page's own.
    entries: [u64; 4],
    /// The number of `entries`.
    depth: usize,
}

impl Fill {
    /// The guest's entries from the root down, with accessed and dirty bits set; the last is the
    /// page's own.
    pub fn entries(&self) -> &[u64] {
        self.entries.get(..self.depth).unwrap_or(&[])
    }
}

/// The meaning of a page fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The page goes into the shadow, and the guest tries again.
    Fill(Fill),
    /// The fault is the guest's own, with this error code.
    Guest(u32),
    /// The guest's tables lead to memory that the p2m does not allow the access to.
    Memory(NestedFault),
    /// The tables changed during the walk: the guest tries again.
    Retry,
}

pub(super) const ACCESSED: u64 = 1 << 5;
pub(super) const DIRTY: u64 = 1 << 6;
const LARGE_SHIFT: u32 = 21;
/// Numbers of linear pages: 48 bits of address.
pub(super) const LINEAR_PAGES: u64 = (1 << 36) - 1;

/// Finds out what a fault at a linear address means; `code` is the CPU's error code.
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
            return Answer::Guest(code & Access::all().bits() | PRESENT_RESERVED);
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
    Answer::Fill(fill(paging, linear, access, &found, page))
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

/// The bits that a CPU's walk sets in an entry.
fn marks(step: &Step, written: bool) -> u64 {
    match (step.bare, written) {
        (true, _) => 0,
        (false, false) => ACCESSED,
        (false, true) => ACCESSED | DIRTY,
    }
}

fn fill(paging: &Paging, linear: Vaddr, access: Access, found: &Found, page: GuestPage) -> Fill {
    let write = access.contains(Access::WRITE);
    let is_dirty = match found.steps.iter().flatten().last() {
        Some(step) => write || step.entry & DIRTY != 0,
        None => true,
    };
    let mut fill = Fill {
        linear: (linear.raw() >> 12) & LINEAR_PAGES,
        gfn: found.place.gpa.frame(),
        page: GuestPage {
            large: page.large && found.shift >= LARGE_SHIFT,
            write: found.writable() && is_dirty && page.write,
            exec: found.executable() && page.exec,
            ..page
        },
        user: found.user(),
        global: found.global,
        for_write: write,
        entries: [0; 4],
        depth: found.steps.iter().flatten().count(),
    };
    for (n, (entry, step)) in (1..).zip(fill.entries.iter_mut().zip(found.steps.iter().flatten())) {
        *entry = step.entry | marks(step, write && n == fill.depth);
    }
    // The CPU always protects pages from the kernel's writes too, as the cache's own reasons to
    // forbid them need it. A guest that does not (CR0.WP = 0) gets the page that it writes as the
    // kernel's, until its user's next access.
    let kernel_writes = write && !access.contains(Access::USER) && !found.writable();
    if kernel_writes && paging.cr0 & (CR0_WP | CR0_PG) == CR0_PG {
        fill.page.write = page.write;
        fill.page.exec &= !(fill.user && paging.cr4 & CR4_SMEP != 0);
        fill.user = false;
    }
    fill
}

/// The bits of control registers that decide how a guest's tables are read. A shadow of a table
/// serves those vcpus whose bits are the same.
pub(super) fn control_bits(paging: &Paging) -> u16 {
    let on = |register: u64, bit: u64, n: u32| u16::from(register & bit != 0) << n;
    on(paging.cr0, CR0_PG, 0)
        | on(paging.cr0, CR0_WP, 1)
        | on(paging.cr4, CR4_PSE, 2)
        | on(paging.cr4, CR4_PAE, 3)
        | on(paging.cr4, CR4_PGE, 4)
        | on(paging.cr4, CR4_SMEP, 5)
        | on(paging.cr4, CR4_SMAP, 6)
        | on(paging.efer, EFER_LMA, 7)
        | on(paging.efer, EFER_NX, 8)
        | on(paging.cr4, CR4_PCIDE, 9)
}
