//! A domain's paging pool: the pages of its nested page tables. They are taken from free memory
//! when the pool is sized, so what a guest does with its memory costs others nothing, and cannot
//! fail for what others do.
//!
//! A page is *owed* for each large page that is mapped. So to split one never fails: a guest that
//! gives up a part of it, and log-dirty mode, can rely on that.
//!
//! dom0's pool takes more from free memory, to the last page, when it is used up.
//!
//! Locks: a p2m's is held outside; the frame allocator's are taken inside.

use oxen_types::{DomainId, Errno, Mfn, Result};
use spin::Mutex;

use crate::frames::{AllocOptions, FrameList, FrameTable};

/// Pages that one step of a change of the size moves.
const STEP: u64 = 2048;

/// The pages of a domain's nested page tables.
pub struct PagingPool {
    frames: &'static FrameTable,
    owner: DomainId,
    grows: bool,
    inner: Mutex<Inner>,
}

struct Inner {
    /// Pages that are in no table.
    list: FrameList,
    free: u64,
    total: u64,
    /// Of the free ones, those that only the split of a large page may take.
    owed: u64,
}

impl PagingPool {
    /// A pool of `pages`; `None` if there are not so many. One that `grows` begins with what can be
    /// had.
    pub fn new(
        frames: &'static FrameTable,
        owner: DomainId,
        pages: u64,
        grows: bool,
    ) -> Option<Self> {
        let inner = Inner {
            list: FrameList::new(),
            free: 0,
            total: 0,
            owed: 0,
        };
        let pool = Self {
            frames,
            owner,
            grows,
            inner: Mutex::new(inner),
        };
        loop {
            match pool.resize(pages) {
                Ok(true) => return Some(pool),
                Ok(false) => {}
                Err(_) => return grows.then_some(pool),
            }
        }
    }

    /// How many pages it has, in use or not.
    pub fn pages(&self) -> u64 {
        self.inner.lock().total
    }

    /// Pages that tables take up.
    pub fn used(&self) -> u64 {
        let inner = self.inner.lock();
        inner.total - inner.free
    }

    /// Brings it nearer to a size, by a step; true when it is there.
    ///
    /// # Errors
    /// `NoMem` if free memory, or what is not in use of the pool, does not suffice. As much as was
    /// there has been moved.
    pub fn resize(&self, pages: u64) -> Result<bool> {
        let mut inner = self.inner.lock();
        for _ in 0..STEP {
            if inner.total < pages {
                self.grow(&mut inner).ok_or(Errno::NoMem)?;
            } else if inner.total > pages {
                if inner.free <= inner.owed {
                    return Err(Errno::NoMem);
                }
                let page = inner.pop(self.frames).ok_or(Errno::NoMem)?;
                inner.total -= 1;
                self.frames.free_own(page, 1);
            } else {
                break;
            }
        }
        Ok(inner.total == pages)
    }

    fn grow(&self, inner: &mut Inner) -> Option<()> {
        let page = match self.grows {
            true => self
                .frames
                .alloc_own(0, self.owner, AllocOptions::default()),
            false => self.frames.alloc_prepaid(self.owner),
        };
        inner.push(self.frames, page?);
        inner.total += 1;
        Some(())
    }

    /// Is there a page that is not owed? One that grows gets it.
    fn has_spare(&self, inner: &mut Inner) -> bool {
        inner.free > inner.owed || (self.grows && self.grow(inner).is_some())
    }

    /// A zeroed page for a table.
    pub(crate) fn take(&self) -> Option<Mfn> {
        let mut inner = self.inner.lock();
        if !self.has_spare(&mut inner) {
            return None;
        }
        self.zeroed(inner.pop(self.frames)?)
    }

    /// The page that is owed to a large page that is to be split.
    pub(crate) fn take_owed(&self) -> Option<Mfn> {
        let mut inner = self.inner.lock();
        debug_assert!(inner.owed > 0);
        inner.owed = inner.owed.saturating_sub(1);
        self.zeroed(inner.pop(self.frames)?)
    }

    fn zeroed(&self, page: Mfn) -> Option<Mfn> {
        self.frames.phys().zero(page, 1);
        Some(page)
    }

    /// A large page is to be mapped. False if no page is left for its split.
    pub(crate) fn owe(&self) -> bool {
        let mut inner = self.inner.lock();
        let spare = self.has_spare(&mut inner);
        inner.owed += u64::from(spare);
        spare
    }

    /// A large page is gone as a whole.
    pub(crate) fn owe_less(&self) {
        let mut inner = self.inner.lock();
        debug_assert!(inner.owed > 0);
        inner.owed = inner.owed.saturating_sub(1);
    }

    /// A table's page comes back, after the flush that was owed.
    pub(crate) fn give(&self, page: Mfn) {
        self.inner.lock().push(self.frames, page);
    }

    #[cfg(test)]
    pub(crate) fn owed(&self) -> u64 {
        self.inner.lock().owed
    }
}

impl Inner {
    fn push(&mut self, frames: &FrameTable, page: Mfn) {
        self.list.push(frames, page);
        self.free += 1;
    }

    fn pop(&mut self, frames: &FrameTable) -> Option<Mfn> {
        let page = self.list.pop(frames)?;
        self.free -= 1;
        Some(page)
    }
}

impl Drop for PagingPool {
    fn drop(&mut self) {
        let inner = self.inner.get_mut();
        while let Some(page) = inner.pop(self.frames) {
            self.frames.free_own(page, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::test_table;
    use oxen_core::seams::FrameSource;
    use std::vec::Vec;

    const DOM: DomainId = DomainId(5);

    fn set(pool: &PagingPool, pages: u64) -> Result<()> {
        while !pool.resize(pages)? {}
        Ok(())
    }

    #[test]
    fn a_pool_is_taken_from_free_memory_and_given_back() {
        let frames = test_table(0x4000);
        let free = || frames.stats().free_frames;
        let before = free();
        let pool = PagingPool::new(frames, DOM, 100, false).unwrap();
        assert_eq!((pool.pages(), free()), (100, before - 100));
        set(&pool, 5000).unwrap();
        assert_eq!((pool.pages(), free()), (5000, before - 5000));
        let used: Vec<_> = (0..40).map(|_| pool.take().unwrap()).collect();
        // What is in use stays, and what is not goes.
        assert_eq!(set(&pool, 10), Err(Errno::NoMem));
        assert_eq!((pool.pages(), pool.used(), free()), (40, 40, before - 40));
        assert!(pool.take().is_none(), "it takes no more by itself");
        used.into_iter().for_each(|page| pool.give(page));
        set(&pool, 10).unwrap();
        drop(pool);
        assert_eq!(free(), before);
    }

    #[test]
    fn a_guests_pool_leaves_the_reserve_and_dom0s_does_not() {
        let frames = test_table(0x4000);
        let free = || frames.stats().free_frames;
        let pool = PagingPool::new(frames, DOM, 1, false).unwrap();
        assert_eq!(set(&pool, u64::MAX), Err(Errno::NoMem));
        assert_eq!(free(), frames.reserve());
        let own = PagingPool::new(frames, DomainId::DOM0, u64::MAX, true).unwrap();
        assert_eq!(free(), 0);
        drop(own);
        let own = PagingPool::new(frames, DomainId::DOM0, 1, true).unwrap();
        let tables: Vec<_> = core::iter::from_fn(|| own.take()).collect();
        assert_eq!((free(), tables.len() as u64), (0, frames.reserve()));
    }

    #[test]
    fn what_is_owed_to_large_pages_is_kept_for_them() {
        let frames = test_table(0x4000);
        let pool = PagingPool::new(frames, DOM, 5, false).unwrap();
        assert!(pool.owe() && pool.owe() && pool.owe());
        let used = [pool.take().unwrap(), pool.take().unwrap()];
        assert!(pool.take().is_none() && !pool.owe());
        assert_eq!(set(&pool, 4), Err(Errno::NoMem));
        let split = pool.take_owed().unwrap();
        pool.owe_less();
        assert!(pool.take().is_some());
        assert!(pool.take().is_none());
        pool.give(split);
        used.into_iter().for_each(|page| pool.give(page));
        assert_eq!((pool.owed(), pool.used()), (1, 1));
    }
}
