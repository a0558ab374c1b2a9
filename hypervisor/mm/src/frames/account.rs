//! How much RAM each domain holds.

use core::sync::atomic::{AtomicU32, Ordering};

use oxen_types::DomainId;

use super::FrameTable;

impl FrameTable {
    fn account(&self, owner: DomainId) -> Option<&AtomicU32> {
        self.charged.get(owner.index())
    }

    /// Frames of RAM that are charged to a domain. While it is not 0, the domain's number must not
    /// be given to another.
    pub fn ram_of(&self, owner: DomainId) -> u64 {
        self.account(owner)
            .map_or(0, |n| n.load(Ordering::Relaxed) as u64)
    }

    /// Charges `count` frames, unless that would exceed `max`.
    pub(crate) fn charge(&self, owner: DomainId, count: u64, max: u64) -> bool {
        let Some(account) = self.account(owner) else {
            return false;
        };
        let more = |held: u32| {
            let sum = (held as u64).checked_add(count).filter(|&sum| sum <= max)?;
            u32::try_from(sum).ok()
        };
        let updated = account.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        updated.is_ok()
    }

    pub(crate) fn uncharge(&self, owner: DomainId, count: u64) {
        if let Some(account) = self.account(owner) {
            let before = account.fetch_sub(count as u32, Ordering::Relaxed);
            assert!(
                before as u64 >= count,
                "more RAM given back than was charged"
            );
        }
    }
}
