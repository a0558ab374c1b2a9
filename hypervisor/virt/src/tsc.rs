//! The time stamp counters of a domain's vcpus, each as an offset to the host's.
//!
//! A domain has one counter: pvclock tells guests that what one vcpu reads is comparable with what
//! another does (XEN_PVCLOCK_TSC_STABLE_BIT), and Linux reads vcpu 0's page on all of them. So all
//! vcpus begin with one offset, the record of one vcpu moves them all, and one that starts anew
//! takes vcpu 0's. Only a guest that writes a TSC or TSC_ADJUST moves a vcpu's counter alone.
//!
//! The back end of a vcpu that is not loaded may be out of date: [`TscOffsets::apply`] is called
//! when a CPU loads it, and before its state is saved.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::backend::VcpuRegisters;

pub struct TscOffsets {
    /// The offset that the domain began with, or that the last record brought: TSC_ADJUST counts
    /// from there.
    base: AtomicU64,
    vcpus: Box<[AtomicU64]>,
}

impl TscOffsets {
    pub fn new(vcpus: usize, offset: u64) -> Self {
        Self {
            base: AtomicU64::new(offset),
            vcpus: (0..vcpus).map(|_| AtomicU64::new(offset)).collect(),
        }
    }

    /// A vcpu's TSC is the host's plus this.
    pub fn get(&self, vcpu: usize) -> u64 {
        self.vcpus
            .get(vcpu)
            .map_or(0, |offset| offset.load(Ordering::Relaxed))
    }

    /// The guest wrote the counter of one vcpu, which is loaded.
    pub fn set(&self, vcpu: usize, offset: u64) {
        if let Some(slot) = self.vcpus.get(vcpu) {
            slot.store(offset, Ordering::Relaxed);
        }
    }

    /// A vcpu's record tells the domain's counter. No vcpu runs.
    pub fn set_all(&self, offset: u64) {
        self.base.store(offset, Ordering::Relaxed);
        self.vcpus
            .iter()
            .for_each(|slot| slot.store(offset, Ordering::Relaxed));
    }

    /// A vcpu starts anew, with the counter of vcpu 0. Returns its TSC_ADJUST, which is vcpu 0's
    /// too.
    pub fn restart(&self, vcpu: usize, backend: &mut dyn VcpuRegisters) -> u64 {
        let offset = self.get(0);
        self.set(vcpu, offset);
        self.apply(vcpu, backend);
        offset.wrapping_sub(self.base.load(Ordering::Relaxed))
    }

    /// Brings a vcpu's back end up to date.
    pub fn apply(&self, vcpu: usize, backend: &mut dyn VcpuRegisters) {
        let offset = self.get(vcpu);
        if backend.tsc_offset() != offset {
            backend.set_tsc_offset(offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::save::tests::Vcpu;
    use crate::testing::vcpu;

    /// As a toolstack builds a guest: it makes the domain, loads the kernel for seconds, and then
    /// gives vcpu 0 a record without a counter. The guest starts the other vcpus.
    #[test]
    fn the_record_of_one_vcpu_moves_the_counter_of_all() {
        let (mut zero, mut one) = (Vcpu::new(), Vcpu::new());
        let created = 1_000_000_000u64;
        let tsc = TscOffsets::new(2, created.wrapping_neg());
        tsc.apply(0, &mut *zero.backend);
        tsc.apply(1, &mut *one.backend);
        let mut record = zero.save_cpu(created);
        record.tsc = 0;
        let built = created + 6_000_000_000;
        assert!(zero.load_cpu(&record, built, &tsc));
        tsc.apply(1, &mut *one.backend);
        let now = built + 1;
        let read = |v: &Vcpu| now.wrapping_add(v.backend.tsc_offset());
        assert_eq!((read(&zero), read(&one)), (1, 1));
        // A saved guest: the last record counts, for vcpus that had one before it too.
        record.tsc = 500;
        assert!(one.load_cpu(&record, built, &tsc));
        tsc.apply(0, &mut *zero.backend);
        assert_eq!((read(&zero), read(&one)), (501, 501));
    }

    #[test]
    fn a_record_that_is_refused_moves_nothing() {
        let mut v = Vcpu::new();
        let tsc = TscOffsets::new(1, 7);
        let mut record = v.save_cpu(0);
        record.fpu_regs[27] = 1;
        assert!(!v.load_cpu(&record, 1_000, &tsc));
        assert_eq!(tsc.get(0), 7);
    }

    #[test]
    fn a_vcpu_that_starts_anew_takes_the_first_ones_counter() {
        let mut one = vcpu();
        let tsc = TscOffsets::new(2, 100);
        // The guest wrote both its counters, each with another value.
        tsc.set(0, 130);
        tsc.set(1, 999);
        assert_eq!((tsc.get(0), tsc.get(1)), (130, 999));
        assert_eq!(tsc.restart(1, &mut *one), 30);
        assert_eq!((tsc.get(1), one.tsc_offset()), (130, 130));
        assert_eq!((tsc.get(2), tsc.get(usize::MAX)), (0, 0));
    }
}
