//! Sets of CPUs.

use crate::CpuId;

/// The number of CPUs that tables are made for: those beyond it are left asleep.
pub const MAX_CPUS: usize = 256;

/// A set of CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CpuMask([u64; MAX_CPUS / 64]);

impl CpuMask {
    /// No CPU.
    pub const EMPTY: Self = Self([0; MAX_CPUS / 64]);
    /// All CPUs that tables are made for.
    pub const ALL: Self = Self([u64::MAX; MAX_CPUS / 64]);

    /// The set whose bits are these, the lowest CPU first.
    pub const fn from_words(words: [u64; MAX_CPUS / 64]) -> Self {
        Self(words)
    }

    /// The set's bits, the lowest CPU first.
    pub const fn words(self) -> [u64; MAX_CPUS / 64] {
        self.0
    }

    /// A set of one CPU.
    pub fn one(cpu: CpuId) -> Self {
        let mut mask = Self::EMPTY;
        mask.add(cpu);
        mask
    }

    /// The CPUs with the lowest `count` numbers.
    pub fn below(count: u32) -> Self {
        let mut mask = Self::EMPTY;
        (0..count.min(MAX_CPUS as u32)).for_each(|cpu| mask.add(CpuId(cpu)));
        mask
    }

    /// Adds a CPU. One beyond [`MAX_CPUS`] is left out.
    pub fn add(&mut self, cpu: CpuId) {
        if let Some(word) = self.0.get_mut(cpu.index() / 64) {
            *word |= 1 << (cpu.index() % 64);
        }
    }

    /// Takes a CPU out.
    pub fn remove(&mut self, cpu: CpuId) {
        if let Some(word) = self.0.get_mut(cpu.index() / 64) {
            *word &= !(1 << (cpu.index() % 64));
        }
    }

    /// Whether the CPU is in the set.
    pub fn contains(&self, cpu: CpuId) -> bool {
        self.0
            .get(cpu.index() / 64)
            .is_some_and(|word| word & 1 << (cpu.index() % 64) != 0)
    }

    /// Whether the set has no CPU.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; MAX_CPUS / 64]
    }

    /// The CPUs in both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(core::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    /// The CPUs that are not in the other set.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(core::array::from_fn(|i| self.0[i] & !other.0[i]))
    }

    /// The member with the lowest number.
    pub fn first(self) -> Option<CpuId> {
        let (i, word) = self.0.iter().enumerate().find(|(_, word)| **word != 0)?;
        Some(CpuId(i as u32 * 64 + word.trailing_zeros()))
    }

    /// The CPUs, the lowest number first.
    pub fn iter(&self) -> impl Iterator<Item = CpuId> {
        (0u32..).zip(self.0).flat_map(|(word, mut bits)| {
            core::iter::from_fn(move || {
                let lowest = bits.trailing_zeros();
                // None for 0.
                let rest = bits & bits.checked_sub(1)?;
                bits = rest;
                Some(CpuId(word * 64 + lowest))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use alloc::vec::Vec;
    extern crate alloc;

    #[test]
    fn sets_are_cut_and_joined() {
        let low = CpuMask::below(65);
        assert_eq!(low.iter().count(), 65);
        assert_eq!(low.without(CpuMask::below(64)).first(), Some(CpuId(64)));
        assert_eq!(low.and(CpuMask::one(CpuId(70))), CpuMask::EMPTY);
        assert_eq!(CpuMask::EMPTY.first(), None);
        assert_eq!(CpuMask::below(1000), CpuMask::ALL);
    }

    #[test]
    fn members() {
        let mut mask = CpuMask::one(CpuId(3));
        mask.add(CpuId(64));
        mask.add(CpuId(255));
        mask.add(CpuId(256));
        assert_eq!(
            mask.iter().collect::<Vec<_>>(),
            [CpuId(3), CpuId(64), CpuId(255)]
        );
        assert!(mask.contains(CpuId(64)) && !mask.contains(CpuId(256)));
        mask.remove(CpuId(3));
        mask.remove(CpuId(64));
        assert_eq!(mask, CpuMask::one(CpuId(255)));
        mask.remove(CpuId(255));
        assert!(mask.is_empty());
        assert_eq!(
            CpuMask::from_words(CpuMask::one(CpuId(70)).words())
                .iter()
                .next(),
            Some(CpuId(70))
        );
    }
}
