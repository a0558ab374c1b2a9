//! The accounts of the machine's memory: what each domain holds, and what is promised to it.
//!
//! - *RAM* is charged to its owner until the frame is free, whoever maps it.
//! - *Other* frames are those that the hypervisor made for a domain and shares with it:
//!   shared_info, grant tables. Their number is bounded by the domain's configuration.
//! - A *claim* is free memory that nobody else may take: it shrinks as its domain gets RAM.
//!
//! Free memory belongs to guests only beyond the reserve and beyond others' claims. Whoever takes
//! some on a guest's behalf does so under `taking`, so that two cannot both be given the last of
//! it.

use core::sync::atomic::{AtomicU32, Ordering};

use oxen_types::{DomainId, Errno, Mfn, Result};

use super::{AllocOptions, FrameTable};

/// One domain's numbers of frames.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Account {
    ram: AtomicU32,
    other: AtomicU32,
    claim: AtomicU32,
}

impl Account {
    fn of(&self, ram: bool) -> &AtomicU32 {
        if ram { &self.ram } else { &self.other }
    }
}

impl FrameTable {
    fn account(&self, owner: DomainId) -> Option<&Account> {
        self.accounts.get(owner.index())
    }

    /// Frames of RAM that are charged to a domain.
    pub fn ram_of(&self, owner: DomainId) -> u64 {
        self.account(owner)
            .map_or(0, |account| account.ram.load(Ordering::Relaxed).into())
    }

    /// All frames in use that a domain owns. While they are more than its own shared_info, the
    /// domain's number must not be given to another.
    pub(super) fn held_by(&self, owner: DomainId) -> u64 {
        self.account(owner).map_or(0, |account| {
            let ram = account.ram.load(Ordering::Relaxed);
            u64::from(ram) + u64::from(account.other.load(Ordering::Relaxed))
        })
    }

    /// Charges `count` frames, unless that would exceed `max`.
    pub(crate) fn charge(&self, owner: DomainId, count: u64, max: u64) -> bool {
        self.account(owner)
            .is_some_and(|account| add(&account.ram, count, max))
    }

    pub(crate) fn uncharge(&self, owner: DomainId, count: u64) {
        self.let_go(owner, true, count);
    }

    pub(super) fn charge_other(&self, owner: DomainId) -> bool {
        self.account(owner)
            .is_some_and(|account| add(&account.other, 1, u64::MAX))
    }

    /// Frames of a domain's are free again.
    pub(super) fn let_go(&self, owner: DomainId, ram: bool, count: u64) {
        let Some(account) = self.account(owner) else {
            return;
        };
        let before = account.of(ram).fetch_sub(count as u32, Ordering::Relaxed);
        assert!(
            u64::from(before) >= count,
            "more frames given back than were charged"
        );
        // A domain's shared_info goes with the domain, after all else.
        if u64::from(before) <= count + 1 {
            self.emptied.store(true, Ordering::Release);
        }
    }

    /// Takes a block of free memory on behalf of a domain. `claimed`: what it has claimed may be
    /// used.
    pub(crate) fn take_for(
        &self,
        owner: DomainId,
        order: u32,
        claimed: bool,
        options: AllocOptions,
    ) -> Option<Mfn> {
        if owner == DomainId::DOM0 || owner == DomainId::XEN {
            return self.take_block(order, options);
        }
        let mut promised = self.taking.lock();
        let claim = self.account(owner).map(|account| &account.claim);
        let own = match claim {
            Some(claim) if claimed => u64::from(claim.load(Ordering::Relaxed)),
            _ => 0,
        };
        let kept = self.reserve + (*promised - own);
        if self.free_frames() < kept + (1 << order) {
            return None;
        }
        let block = self.take_block(order, options)?;
        let used = own.min(1 << order);
        if let Some(claim) = claim
            && used > 0
        {
            claim.fetch_sub(used as u32, Ordering::Relaxed);
            *promised -= used;
        }
        Some(block)
    }

    /// Keeps memory for a domain, until it has `pages` in all; 0 gives up what is left of its
    /// claim.
    pub(crate) fn claim(&self, owner: DomainId, pages: u64, max: u64) -> Result<()> {
        let account = self.account(owner).ok_or(Errno::Inval)?;
        let mut promised = self.taking.lock();
        let old = u64::from(account.claim.load(Ordering::Relaxed));
        let new = match pages {
            0 => 0,
            // One claim at a time, for more than the domain has and no more than it may have.
            _ if old > 0 || pages > max => return Err(Errno::Inval),
            _ => match pages.checked_sub(self.ram_of(owner)) {
                None | Some(0) => return Err(Errno::Inval),
                Some(more) => more,
            },
        };
        if new > 0 && self.free_frames() < self.reserve + *promised + new {
            return Err(Errno::NoMem);
        }
        account.claim.store(
            u32::try_from(new).map_err(|_| Errno::NoMem)?,
            Ordering::Relaxed,
        );
        *promised = *promised - old + new;
        Ok(())
    }

    pub(crate) fn claim_of(&self, owner: DomainId) -> u64 {
        self.account(owner)
            .map_or(0, |account| account.claim.load(Ordering::Relaxed).into())
    }

    pub(super) fn promised(&self) -> u64 {
        *self.taking.lock()
    }
}

/// Adds, unless the sum would exceed `max`.
fn add(number: &AtomicU32, count: u64, max: u64) -> bool {
    let more = |held: u32| {
        let sum = u64::from(held).checked_add(count);
        u32::try_from(sum.filter(|&sum| sum <= max)?).ok()
    };
    let updated = number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    updated.is_ok()
}
