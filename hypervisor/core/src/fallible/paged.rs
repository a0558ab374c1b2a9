//! A table of fixed length whose pieces are allocated when they are first used.
//!
//! Three levels: leaves of at most a page of values, directories of leaves, and a root. No piece is
//! larger than a page, nothing ever moves, and a lookup takes three loads.

use alloc::vec::Vec;

use oxen_types::{PAGE_SIZE, Result, masked};

use super::{Account, filled};

/// Leaves of a directory, as a power of two.
const DIRECTORY_SHIFT: u32 = 7;
const DIRECTORY: usize = 1 << DIRECTORY_SHIFT;

/// The table. A piece that is not there is an empty list, which takes no memory.
pub struct Paged<T> {
    root: Vec<Vec<Vec<T>>>,
    len: usize,
    /// Bytes that were charged for what is there.
    charged: usize,
}

impl<T> Paged<T> {
    /// Values of a leaf: a power of two, as many as a page holds.
    pub const LEAF: usize = 1 << Self::LEAF_SHIFT;
    const LEAF_SHIFT: u32 = {
        let size = if size_of::<T>() == 0 {
            1
        } else {
            size_of::<T>()
        };
        assert!(size <= PAGE_SIZE);
        (PAGE_SIZE / size).ilog2()
    };
    const ROOT_SHIFT: u32 = Self::LEAF_SHIFT + DIRECTORY_SHIFT;

    /// As many values as a root of a page leads to.
    const MOST: usize = (PAGE_SIZE / size_of::<Vec<Vec<T>>>()) << Self::ROOT_SHIFT;

    /// An empty table. Its length is at most what a root of one page allows.
    pub fn new(len: usize) -> Self {
        Self {
            root: Vec::new(),
            len: len.min(Self::MOST),
            charged: 0,
        }
    }

    /// The length of the table.
    pub fn capacity(&self) -> usize {
        self.len
    }

    /// The value at a place, if its leaf is there.
    pub fn get(&self, index: usize) -> Option<&T> {
        let index = self.masked(index)?;
        let directory = self.root.get(index >> Self::ROOT_SHIFT)?;
        let leaf = directory.get((index >> Self::LEAF_SHIFT) % DIRECTORY)?;
        leaf.get(index % Self::LEAF)
    }

    /// The value at a place, if its leaf is there.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        let index = self.masked(index)?;
        let directory = self.root.get_mut(index >> Self::ROOT_SHIFT)?;
        let leaf = directory.get_mut((index >> Self::LEAF_SHIFT) % DIRECTORY)?;
        leaf.get_mut(index % Self::LEAF)
    }

    /// The values of one leaf; none if it is not there.
    pub fn leaf(&self, leaf: usize) -> &[T] {
        let directory = self.root.get(leaf >> DIRECTORY_SHIFT);
        let leaf = directory.and_then(|directory| directory.get(leaf % DIRECTORY));
        leaf.map_or(&[], Vec::as_slice)
    }

    fn masked(&self, index: usize) -> Option<usize> {
        (index < self.len).then(|| masked(index, self.len))
    }

    /// Makes the leaf of `index`, if it is not there yet, with values that `make` gives.
    ///
    /// # Errors
    /// `NoMem` if the account or the heap has no room; then nothing is charged for the leaf.
    pub fn ensure(
        &mut self,
        index: usize,
        account: &Account,
        make: impl FnMut() -> T,
    ) -> Result<()> {
        if self.get(index).is_some() || index >= self.len {
            return Ok(());
        }
        if self.root.is_empty() {
            let count = self.len.div_ceil(1 << Self::ROOT_SHIFT);
            self.root = self.charged(account, count, Vec::new)?;
        }
        let (leaf, at) = (index >> Self::LEAF_SHIFT, index >> Self::ROOT_SHIFT);
        if self.root.get(at).is_some_and(Vec::is_empty) {
            let leaves = self.len.div_ceil(Self::LEAF) - (at << DIRECTORY_SHIFT);
            let directory = self.charged(account, leaves.min(DIRECTORY), Vec::new)?;
            if let Some(place) = self.root.get_mut(at) {
                *place = directory;
            }
        }
        let count = (self.len - (leaf << Self::LEAF_SHIFT)).min(Self::LEAF);
        let values = self.charged(account, count, make)?;
        let directory = self.root.get_mut(at);
        if let Some(place) = directory.and_then(|all| all.get_mut(leaf % DIRECTORY)) {
            *place = values;
        }
        Ok(())
    }

    fn charged<V>(
        &mut self,
        account: &Account,
        count: usize,
        make: impl FnMut() -> V,
    ) -> Result<Vec<V>> {
        let bytes = super::cost(count * size_of::<V>());
        account.charge(bytes)?;
        match filled(count, make) {
            Ok(values) => {
                self.charged += bytes;
                Ok(values)
            }
            Err(errno) => {
                account.refund(bytes);
                Err(errno)
            }
        }
    }

    /// All values that are there, with their places.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        let leaves = |(at, directory)| {
            let first = at << DIRECTORY_SHIFT;
            (first..).zip::<&Vec<Vec<T>>>(directory)
        };
        (0usize..)
            .zip(&self.root)
            .flat_map(leaves)
            .flat_map(|(leaf, values)| ((leaf << Self::LEAF_SHIFT)..).zip(values))
    }

    /// All values that are there.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.root.iter_mut().flatten().flatten()
    }

    /// Gives the leaf of `index` back, if all of its values are of no use.
    pub fn trim(&mut self, index: usize, account: &Account, unused: impl FnMut(&T) -> bool) {
        let directory = self.root.get_mut(index >> Self::ROOT_SHIFT);
        let at = (index >> Self::LEAF_SHIFT) % DIRECTORY;
        if let Some(leaf) = directory.and_then(|directory| directory.get_mut(at))
            && leaf.iter().all(unused)
        {
            let bytes = super::cost(size_of_val(leaf.as_slice()));
            *leaf = Vec::new();
            account.refund(bytes);
            self.charged = self.charged.saturating_sub(bytes);
        }
    }

    /// Gives all of it back.
    pub fn clear(&mut self, account: &Account) {
        self.root = Vec::new();
        account.refund(core::mem::take(&mut self.charged));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::Claimant;
    use crate::testing::World;

    #[test]
    fn pieces_come_as_they_are_used_and_all_go() {
        let (world, _dom0) = World::new();
        let account = Account::new(world.frames, Claimant::Guest, usize::MAX);
        for len in [1, 100, 128, 129, 1 << 17, (1 << 20) - 1] {
            let mut table = Paged::<[u64; 4]>::new(len);
            assert_eq!(table.capacity(), len);
            for index in [len - 1, 0, len / 2] {
                table.ensure(index, &account, || [7; 4]).expect("memory");
                table.get_mut(index).expect("there")[0] = index as u64;
            }
            for index in [0, len / 2, len - 1] {
                assert_eq!(table.get(index), Some(&[index as u64, 7, 7, 7]));
            }
            assert!(table.get(len).is_none() && table.get(usize::MAX).is_none());
            assert!(table.iter().all(|(at, v)| v[0] == 7 || v[0] == at as u64));
            table.clear(&account);
            assert!(table.get(0).is_none());
            assert_eq!(account.used(), 0);
        }
    }

    #[test]
    fn a_quota_is_kept_to_the_byte() {
        let (world, _dom0) = World::new();
        // A root and a directory of a few bytes, and one leaf.
        let account = Account::new(world.frames, Claimant::Guest, 32 + 64 + PAGE_SIZE);
        let mut table = Paged::<u64>::new(1024);
        table.ensure(3, &account, || 0).expect("within it");
        let before = account.used();
        assert!(table.ensure(600, &account, || 0).is_err());
        assert_eq!(account.used(), before, "nothing is charged for a failure");
        assert!(table.get(600).is_none() && table.get(3).is_some());
        table.clear(&account);
        assert_eq!(account.used(), 0);
    }
}
