//! One page-table engine for every radix-tree format: ours, NPT, EPT, shadows.
//!
//! The hardware may walk the tables at any moment. So each change of what an address means is one
//! 64-bit store; a new table is complete before the store that links it; a table that was unlinked
//! goes to
//! [`TablePool::free`], whose owner must not reuse it before the TLB flush that is owed.
//! Changes are serialised by the caller; lookups may run beside them only under the caller's lock.

mod format;
#[cfg(test)]
mod tests;

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};

use oxen_types::{Maddr, Mfn};

use crate::phys::Table;
pub use format::{Attrs, Decoded, Ept, Format, Host, Npt, Shadow};

/// The most levels of any format.
const MOST_LEVELS: usize = 4;

/// 4 KiB pages that an entry of this level spans.
pub const fn pages_at(level: u32) -> u64 {
    1 << (9 * (level - 1))
}

fn index(page: u64, level: u32) -> usize {
    (page >> (9 * (level - 1)) & 511) as usize
}

/// Access to the words of table pages.
pub trait TableAccess {
    /// The words of a table.
    fn table(&self, mfn: Mfn) -> &'static Table;
}

/// Where table pages come from and go to.
pub trait TablePool: TableAccess {
    /// One zeroed page.
    fn alloc(&mut self) -> Option<Mfn>;
    /// The same for the table that takes the place of a large page.
    fn alloc_for_split(&mut self) -> Option<Mfn> {
        self.alloc()
    }
    /// The attributes of the parts of a large page that is split.
    fn part(&self, whole: Attrs) -> Attrs {
        whole
    }
    /// Takes back an unlinked page, which the hardware may still read until the next flush.
    fn free(&mut self, table: Mfn);
}

impl TableAccess for crate::Phys {
    fn table(&self, mfn: Mfn) -> &'static Table {
        crate::Phys::table(*self, mfn)
    }
}

/// A mapped page of some size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// The frame: of the page's start, or of the 4 KiB asked for.
    pub mfn: Mfn,
    /// The level of the entry: 1 for 4 KiB, 2 for 2 MiB, 3 for 1 GiB.
    pub level: u32,
    /// Rights and memory type.
    pub attrs: Attrs,
}

/// The result of a look-up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Walk {
    /// The page is mapped; `mfn` is that of the 4 KiB page asked for.
    Leaf(Leaf),
    /// Nothing is mapped in the whole span of an entry of this level.
    Absent {
        /// The level of the absent entry.
        level: u32,
    },
}

/// Why a page could not be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// There was no page for a table.
    NoMemory,
    /// Something is mapped there.
    Occupied,
}

/// There was no page for a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoMemory;

impl From<NoMemory> for MapError {
    fn from(_: NoMemory) -> Self {
        MapError::NoMemory
    }
}

/// A tree of tables. Pages are named by number (address / 4096); bits above 36 are ignored.
pub struct PageTable<F> {
    root: Mfn,
    format: PhantomData<F>,
}

impl<F: Format> PageTable<F> {
    /// A tree without entries; `None` if the pool has no page for the root.
    pub fn new(pool: &mut impl TablePool) -> Option<Self> {
        Some(Self {
            root: pool.alloc()?,
            format: PhantomData,
        })
    }

    /// The root table's address.
    pub fn root(&self) -> Maddr {
        self.root.base()
    }

    /// Inlined where it is used: each exit that reads a guest's tables comes here several times.
    #[inline]
    pub fn walk(&self, mem: &impl TableAccess, page: u64) -> Walk {
        let mut table = self.root;
        let mut level = F::LEVELS;
        loop {
            let entry = mem.table(table)[index(page, level)].load(Ordering::Acquire);
            if let Some(next) = F::next(entry, level) {
                table = next;
                level -= 1;
                continue;
            }
            return match F::decode(entry, level) {
                Decoded::Leaf(first, attrs) => {
                    let mfn = Mfn::new(first.raw() + page % pages_at(level));
                    Walk::Leaf(Leaf { mfn, level, attrs })
                }
                Decoded::Absent | Decoded::Table(_) => Walk::Absent { level },
            };
        }
    }

    /// Maps one page of the given level where nothing is mapped.
    pub fn map(
        &self,
        pool: &mut impl TablePool,
        page: u64,
        mfn: Mfn,
        level: u32,
        attrs: Attrs,
    ) -> Result<(), MapError> {
        match self.walk(pool, page) {
            Walk::Absent { level: free } if free >= level => {}
            _ => return Err(MapError::Occupied),
        }
        self.slot(pool, page, level)?
            .store(F::leaf(mfn, level, attrs), Ordering::Release);
        Ok(())
    }

    /// Maps `count` pages with the largest leaves that fit, up to `max_level`. On error the part
    /// before the obstacle stays mapped.
    pub fn map_range(
        &self,
        pool: &mut impl TablePool,
        mut page: u64,
        mfn: Mfn,
        count: u64,
        attrs: Attrs,
        max_level: u32,
    ) -> Result<(), MapError> {
        let end = page + count;
        let mut mfn = mfn.raw();
        while page < end {
            let fits =
                |l: &u32| (page | mfn).is_multiple_of(pages_at(*l)) && end - page >= pages_at(*l);
            let level = (2..=max_level).rev().find(fits).unwrap_or(1);
            self.map(pool, page, Mfn::new(mfn), level, attrs)?;
            page += pages_at(level);
            mfn += pages_at(level);
        }
        Ok(())
    }

    /// Puts a 4 KiB page in the place of whatever is there (a part of a larger page too), in one
    /// store, and returns what that was.
    pub fn replace(
        &self,
        pool: &mut impl TablePool,
        page: u64,
        mfn: Mfn,
        attrs: Attrs,
    ) -> Result<Option<Leaf>, NoMemory> {
        let slot = self.slot(pool, page, 1)?;
        Ok(self.exchange(slot, 1, F::leaf(mfn, 1, attrs)))
    }

    /// Takes away the page of this level that covers `page`; a larger one is split first, so only
    /// that can fail. Nothing is done where nothing, or smaller pages, are mapped.
    pub fn unmap(
        &self,
        pool: &mut impl TablePool,
        page: u64,
        level: u32,
    ) -> Result<Option<Leaf>, NoMemory> {
        match self.walk(pool, page) {
            Walk::Leaf(leaf) if leaf.level >= level => {}
            _ => return Ok(None),
        }
        let slot = self.slot(pool, page, level)?;
        let old = self.exchange(slot, level, 0);
        self.prune(pool, page);
        Ok(old)
    }

    /// Changes the rights of the page of this level that covers `page`; as [`PageTable::unmap`]
    /// else.
    pub fn protect(
        &self,
        pool: &mut impl TablePool,
        page: u64,
        level: u32,
        attrs: Attrs,
    ) -> Result<Option<Leaf>, NoMemory> {
        let Walk::Leaf(leaf) = self.walk(pool, page) else {
            return Ok(None);
        };
        if leaf.level < level {
            return Ok(None);
        }
        let first = Mfn::new(leaf.mfn.raw() - page % pages_at(level));
        let slot = self.slot(pool, page, level)?;
        Ok(self.exchange(slot, level, F::leaf(first, level, attrs)))
    }

    /// Takes away up to `budget` leaves from the start, and tables as they run empty. True when
    /// nothing but the root is left.
    pub fn drain(
        &self,
        pool: &mut impl TablePool,
        budget: usize,
        mut sink: impl FnMut(Leaf),
    ) -> bool {
        let mut left = budget;
        Self::drain_table(pool, self.root, F::LEVELS, &mut left, &mut sink)
    }

    /// Gives the root back. Everything else has to be gone already.
    pub fn free_root(self, pool: &mut impl TablePool) {
        debug_assert!(is_empty(pool.table(self.root)));
        pool.free(self.root);
    }

    /// The entry at `level` on the way to `page`; missing tables are made, larger pages split.
    fn slot(
        &self,
        pool: &mut impl TablePool,
        page: u64,
        level: u32,
    ) -> Result<&'static AtomicU64, NoMemory> {
        let mut table = self.root;
        for at in (level + 1..=F::LEVELS).rev() {
            let slot = &pool.table(table)[index(page, at)];
            table = match F::decode(slot.load(Ordering::Acquire), at) {
                Decoded::Table(next) => next,
                Decoded::Absent => {
                    let Some(new) = pool.alloc() else {
                        self.prune(pool, page);
                        return Err(NoMemory);
                    };
                    slot.store(F::table(new), Ordering::Release);
                    new
                }
                Decoded::Leaf(first, attrs) => {
                    let new = pool.alloc_for_split().ok_or(NoMemory)?;
                    let (step, part) = (pages_at(at - 1), pool.part(attrs));
                    for (n, entry) in (0u64..).zip(pool.table(new)) {
                        let mfn = Mfn::new(first.raw() + n * step);
                        entry.store(F::leaf(mfn, at - 1, part), Ordering::Relaxed);
                    }
                    slot.store(F::table(new), Ordering::Release);
                    new
                }
            };
        }
        Ok(&pool.table(table)[index(page, level)])
    }

    fn exchange(&self, slot: &AtomicU64, level: u32, new: u64) -> Option<Leaf> {
        match F::decode(slot.swap(new, Ordering::AcqRel), level) {
            Decoded::Leaf(mfn, attrs) => Some(Leaf { mfn, level, attrs }),
            _ => None,
        }
    }

    /// Unlinks and frees the tables on the way to `page` that hold nothing any more.
    fn prune(&self, pool: &mut impl TablePool, page: u64) {
        let mut path = [None; MOST_LEVELS];
        let mut table = self.root;
        for level in (2..=F::LEVELS).rev() {
            let slot: &'static AtomicU64 = &pool.table(table)[index(page, level)];
            let Decoded::Table(child) = F::decode(slot.load(Ordering::Acquire), level) else {
                break;
            };
            path[(F::LEVELS - level) as usize] = Some((slot, child));
            table = child;
        }
        for (slot, child) in path.into_iter().rev().flatten() {
            if !is_empty(pool.table(child)) {
                break;
            }
            slot.store(0, Ordering::Release);
            pool.free(child);
        }
    }

    fn drain_table(
        pool: &mut impl TablePool,
        table: Mfn,
        level: u32,
        left: &mut usize,
        sink: &mut impl FnMut(Leaf),
    ) -> bool {
        for slot in pool.table(table) {
            let decoded = F::decode(slot.load(Ordering::Acquire), level);
            match decoded {
                Decoded::Absent => continue,
                _ if *left == 0 => return false,
                Decoded::Leaf(mfn, attrs) => {
                    slot.store(0, Ordering::Release);
                    *left -= 1;
                    sink(Leaf { mfn, level, attrs });
                }
                Decoded::Table(child) => {
                    if !Self::drain_table(pool, child, level - 1, left, sink) {
                        return false;
                    }
                    slot.store(0, Ordering::Release);
                    pool.free(child);
                }
            }
        }
        true
    }
}

fn is_empty(table: &Table) -> bool {
    table.iter().all(|entry| entry.load(Ordering::Relaxed) == 0)
}
