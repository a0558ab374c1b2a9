//! The HPET's main counter (IA-PC HPET 1.0a, 2.3). Only its counter is used, no comparator.
#![allow(unsafe_code, reason = "MMIO")]

use oxen_types::Maddr;
use oxen_types::layout;

const CAPABILITIES: u64 = 0;
const CONFIGURATION: u64 = 0x10;
const COUNTER: u64 = 0xf0;
const COUNTER_64_BIT: u64 = 1 << 13;
const ENABLE: u64 = 1;
const FEMTOSECONDS_PER_SECOND: u64 = 1_000_000_000_000_000;
/// The specification's upper bound for a tick: 100 ns.
const MAX_PERIOD_FS: u64 = 100_000_000;

#[derive(Clone, Copy, Debug)]
pub(super) struct Hpet {
    base: u64,
    period_fs: u64,
    pub(super) is_64_bit: bool,
}

impl Hpet {
    /// Starts the counter. `None` if the registers make no sense.
    pub(super) fn new(address: Maddr) -> Option<Self> {
        let base = layout::direct_map(address)?.raw();
        let mut hpet = Self {
            base,
            period_fs: 0,
            is_64_bit: false,
        };
        let capabilities = hpet.read(CAPABILITIES);
        hpet.period_fs = capabilities >> 32;
        hpet.is_64_bit = capabilities & COUNTER_64_BIT != 0;
        if hpet.period_fs == 0 || hpet.period_fs > MAX_PERIOD_FS {
            return None;
        }
        let on = hpet.read(CONFIGURATION) | ENABLE;
        // SAFETY: the HPET's configuration register, mapped in the direct map.
        unsafe { ((base + CONFIGURATION) as *mut u64).write_volatile(on) };
        let before = hpet.counter();
        (0..100_000)
            .any(|_| hpet.counter() != before)
            .then_some(hpet)
    }

    pub(super) fn hz(&self) -> u64 {
        FEMTOSECONDS_PER_SECOND / self.period_fs
    }

    pub(super) fn period_fs(&self) -> u64 {
        self.period_fs
    }

    pub(super) fn counter(&self) -> u64 {
        let value = self.read(COUNTER);
        if self.is_64_bit {
            value
        } else {
            value & 0xffff_ffff
        }
    }

    fn read(&self, register: u64) -> u64 {
        // SAFETY: the HPET's registers, mapped in the direct map.
        unsafe { ((self.base + register) as *const u64).read_volatile() }
    }
}
