//! pvclock, as guests read it (xen/xen.h, `vcpu_time_info`).

use core::sync::atomic::{Ordering, fence};

use crate::area::SharedArea;
use crate::seams::{Clock, PageRef};

/// The flag that pvclock readings agree on all vcpus (XEN_PVCLOCK_TSC_STABLE_BIT).
const TSC_STABLE: u8 = 1;

/// The size of `struct vcpu_time_info`.
pub(crate) const TIME_INFO_SIZE: usize = 32;
const TSC_TIMESTAMP: usize = 8;
const FLAGS: usize = 29;

/// One reading of the clock, in the terms of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeInfo {
    /// The guest's TSC.
    pub tsc: u64,
    /// System time at that TSC, in ns.
    pub system: u64,
    /// See [`crate::seams::ClockScale`].
    pub mul: u32,
    /// See [`crate::seams::ClockScale`].
    pub shift: i8,
    /// Whether readings on different vcpus may be compared.
    pub stable: bool,
}

impl TimeInfo {
    /// Reads the clock for a guest whose TSC is ahead of the host's by `tsc_offset`.
    pub(crate) fn now(clock: &dyn Clock, tsc_offset: u64) -> Self {
        let (tsc, system) = clock.sample();
        let scale = clock.scale();
        Self {
            tsc: tsc.wrapping_add(tsc_offset),
            system,
            mul: scale.mul,
            shift: scale.shift,
            stable: clock.tsc_is_stable(),
        }
    }

    fn encode(&self) -> [u8; TIME_INFO_SIZE - TSC_TIMESTAMP] {
        let mut bytes = [0; TIME_INFO_SIZE - TSC_TIMESTAMP];
        bytes[0..8].copy_from_slice(&self.tsc.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.system.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.mul.to_le_bytes());
        bytes[20] = self.shift as u8;
        bytes[FLAGS - TSC_TIMESTAMP] = if self.stable { TSC_STABLE } else { 0 };
        bytes
    }
}

/// The version of one vcpu's published clock, and the second area that the guest may register for
/// it.
#[derive(Default)]
pub(crate) struct TimePage {
    version: u32,
    secondary: Option<SharedArea>,
}

impl TimePage {
    /// Publishes in a second area from now on, or no longer.
    pub(crate) fn set_secondary(&mut self, area: Option<SharedArea>) {
        self.secondary = area;
    }

    /// Drops the reference to the second area.
    pub(crate) fn forget(&mut self) {
        self.secondary = None;
    }

    /// Writes the clock to the vcpu_info at `offset` in `page`. Readers retry while the version is
    /// odd or changes.
    pub(crate) fn publish(&mut self, page: &PageRef, offset: usize, time: &TimeInfo) {
        self.version = self.version.wrapping_add(1) | 1;
        page.word(offset).store(self.version, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        page.write(offset + TSC_TIMESTAMP, &time.encode());
        fence(Ordering::SeqCst);
        self.version = self.version.wrapping_add(1);
        page.word(offset).store(self.version, Ordering::SeqCst);
        page.mark_written();
    }

    /// Writes the clock to the second area, if there is one.
    pub(crate) fn publish_secondary(&mut self, time: &TimeInfo) {
        let Some(area) = &self.secondary else { return };
        self.version = self.version.wrapping_add(1) | 1;
        area.write(0, &self.version.to_le_bytes());
        fence(Ordering::SeqCst);
        area.write(TSC_TIMESTAMP, &time.encode());
        fence(Ordering::SeqCst);
        self.version = self.version.wrapping_add(1);
        area.write(0, &self.version.to_le_bytes());
    }
}
