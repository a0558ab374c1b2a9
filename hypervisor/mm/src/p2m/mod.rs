//! A domain's guest-physical address space: its p2m in the hardware's own format.
//!
//! - The tables are the only truth; a lookup walks them under the read lock. Copies in and out of
//!   the guest hold the read lock, so no page can vanish under them, and count no references.
//! - Each entry but those of device memory holds one reference to each of its frames.
//! - An operation takes entries away under the write lock, drops the lock, flushes the guest's
//!   translations, and only then drops the references and frees tables ([`gather`]). Where it only
//!   adds entries it does not flush: neither NPT nor EPT caches what is absent.
//! - A domain with identity memory gets the frames that were set aside for it: gfn = mfn.

mod copy;
mod gather;
mod kind;
mod log;
mod map;
mod mmio;
mod ram;
mod seam;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use oxen_core::seams::Report;
use oxen_types::{DomainId, Errno, Gfn, Maddr, PAGE_SHIFT, Result, RwLock};

use crate::frames::FrameTable;
use crate::pool::PagingPool;
use crate::pt::{Format, Leaf, PageTable, Walk};
use gather::{DomainPool, Gather};
pub use kind::Rules;

/// Makes a guest's cached translations go away.
pub trait FlushGuest: Send + Sync {
    /// When it returns, no CPU uses translations of the guest that were cached before the call.
    /// Called with none of this crate's locks held. Other CPUs may be waiting for such a lock with
    /// interrupts off, so it must not wait for CPUs that are not running the guest just now.
    fn flush(&self, cause: Cause<'_>);
}

/// Why translations go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause<'a> {
    /// The entries of these pages changed, all of them RAM.
    Pages(&'a [Gfn]),
    /// Many may have changed.
    Many,
    /// None did, but the guest asked for it: its own tables may have changed.
    Guest,
}

/// The configuration of a guest-physical address space.
#[derive(Clone, Copy, Debug)]
pub struct SpaceConfig {
    /// The domain.
    pub owner: DomainId,
    /// gfn = mfn, from what was set aside by [`FrameTable::reserve_identity`].
    pub identity: bool,
    /// Width of guest-physical addresses, at most 48.
    pub address_bits: u32,
    /// Frames of RAM that the domain may have.
    pub max_frames: u64,
    /// Pages of the paging pool to begin with.
    pub pool_pages: u64,
    /// Rights of its entries.
    pub rules: Rules,
}

/// The guest-physical address space of one domain.
pub struct GuestSpace<F: Format> {
    frames: &'static FrameTable,
    owner: DomainId,
    identity: bool,
    /// gfns lie below it.
    gfn_end: u64,
    max_frames: AtomicU64,
    max_gfn: AtomicU64,
    flush: Box<dyn FlushGuest>,
    /// Log-dirty mode, and the faults that it took.
    logging: AtomicBool,
    log_faults: AtomicU32,
    pool: PagingPool,
    rules: Rules,
    /// `None` only while it is dropped.
    tables: RwLock<Option<PageTable<F>>>,
}

impl<F: Format> GuestSpace<F> {
    /// An empty space; `None` if there is no memory for its root.
    pub fn new(
        frames: &'static FrameTable,
        config: SpaceConfig,
        flush: Box<dyn FlushGuest>,
    ) -> Option<Self> {
        let paging = PagingPool::new(frames, config.owner, config.pool_pages, config.identity)?;
        let mut dead = Gather::new(frames, &paging);
        let mut pool = DomainPool {
            frames,
            rules: config.rules,
            dead: &mut dead,
        };
        let tables = PageTable::new(&mut pool)?;
        drop(dead);
        Some(Self {
            frames,
            owner: config.owner,
            identity: config.identity,
            gfn_end: 1 << (config.address_bits.clamp(32, 48) - PAGE_SHIFT),
            max_frames: AtomicU64::new(config.max_frames),
            max_gfn: AtomicU64::new(0),
            flush,
            logging: AtomicBool::new(false),
            log_faults: AtomicU32::new(0),
            pool: paging,
            rules: config.rules,
            tables: RwLock::new(Some(tables)),
        })
    }

    /// The root table, for the vcpus' nested CR3 or EPT pointer.
    pub fn root(&self) -> Maddr {
        self.look(PageTable::root)
    }

    /// Pages that the tables take up now.
    pub fn table_pages(&self) -> u64 {
        self.pool.used()
    }

    fn leaf(&self, gfn: Gfn) -> Option<Leaf> {
        if gfn.raw() >= self.gfn_end {
            return None;
        }
        self.look(|tables| self.leaf_in(tables, gfn))
    }

    /// Inlined where it is used: each exit that reads a guest's tables comes here several times.
    #[inline(always)]
    fn leaf_in(&self, tables: &PageTable<F>, gfn: Gfn) -> Option<Leaf> {
        match tables.walk(&self.frames.phys(), gfn.raw()) {
            Walk::Leaf(leaf) => Some(leaf),
            Walk::Absent { .. } => None,
        }
    }

    /// Checks a range of gfns that came from a guest.
    fn check(&self, gfn: Gfn, count: u64) -> Result<()> {
        match gfn.raw().checked_add(count) {
            Some(end) if end <= self.gfn_end => Ok(()),
            _ => Err(Errno::Inval),
        }
    }

    fn look<T>(&self, look: impl FnOnce(&PageTable<F>) -> T) -> T {
        match &*self.tables.read() {
            Some(tables) => look(tables),
            None => unreachable!("a p2m used while it is dropped"),
        }
    }

    /// Something stands at a gfn.
    fn note_top(&self, gfn: u64) {
        self.max_gfn.fetch_max(gfn, Ordering::Relaxed);
    }

    fn gather(&self) -> Gather<'_> {
        Gather::new(self.frames, &self.pool)
    }

    /// Runs one step of a change under the write lock. What it takes away goes into `gather`.
    fn change<'p, T>(
        &'p self,
        gather: &mut Gather<'p>,
        step: impl FnOnce(&PageTable<F>, &mut DomainPool<'_, 'p>) -> T,
    ) -> T {
        let guard = self.tables.write();
        let Some(tables) = &*guard else {
            unreachable!("a p2m used while it is dropped");
        };
        let mut pool = DomainPool {
            frames: self.frames,
            rules: self.rules,
            dead: gather,
        };
        step(tables, &mut pool)
    }

    /// Does something for each item of a list, and flushes what that takes away together, as far as
    /// it fits into a gather. Nothing of it is given back before its flush.
    fn together<'p, T>(
        &'p self,
        list: &mut dyn Iterator<Item = T>,
        report: &mut Report<'_>,
        mut act: impl FnMut(T, &mut Gather<'p>) -> Result<()>,
    ) {
        let mut gather = self.gather();
        for item in list {
            self.make_room(&mut gather);
            report(act(item, &mut gather));
        }
        self.finish(gather);
    }

    /// Flushes what was gathered if it may not take another item.
    fn make_room<'p>(&'p self, gather: &mut Gather<'p>) {
        if gather.is_full() {
            self.finish(core::mem::replace(gather, self.gather()));
        }
    }

    fn finish(&self, mut gather: Gather<'_>) {
        gather.finish(&*self.flush);
    }
}

impl<F: Format> Drop for GuestSpace<F> {
    fn drop(&mut self) {
        while !self.drain(usize::MAX) {}
        let mut gather = Gather::new(self.frames, &self.pool);
        if let Some(tables) = self.tables.get_mut().take() {
            let mut pool = DomainPool {
                frames: self.frames,
                rules: self.rules,
                dead: &mut gather,
            };
            tables.free_root(&mut pool);
        }
        gather.finish(&*self.flush);
    }
}
