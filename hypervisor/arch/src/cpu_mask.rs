//! Sets of CPUs.

use crate::cpu_count::MAX_CPUS;
use oxen_types::CpuId;

/// A set of CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CpuMask([u64; MAX_CPUS / 64]);

impl CpuMask {
    pub const EMPTY: Self = Self([0; MAX_CPUS / 64]);

    pub const fn from_words(words: [u64; MAX_CPUS / 64]) -> Self {
        Self(words)
    }

    pub const fn words(self) -> [u64; MAX_CPUS / 64] {
        self.0
    }

    pub fn one(cpu: CpuId) -> Self {
        let mut mask = Self::EMPTY;
        mask.add(cpu);
        mask
    }

    pub fn add(&mut self, cpu: CpuId) {
        if let Some(word) = self.0.get_mut(cpu.index() / 64) {
            *word |= 1 << (cpu.index() % 64);
        }
    }

    pub fn remove(&mut self, cpu: CpuId) {
        if let Some(word) = self.0.get_mut(cpu.index() / 64) {
            *word &= !(1 << (cpu.index() % 64));
        }
    }

    pub fn contains(&self, cpu: CpuId) -> bool {
        self.0
            .get(cpu.index() / 64)
            .is_some_and(|word| word & 1 << (cpu.index() % 64) != 0)
    }

    pub fn is_empty(&self) -> bool {
        self.0 == [0; MAX_CPUS / 64]
    }

    pub fn iter(&self) -> impl Iterator<Item = CpuId> {
        let mask = *self;
        (0..MAX_CPUS as u32)
            .map(CpuId)
            .filter(move |cpu| mask.contains(*cpu))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
