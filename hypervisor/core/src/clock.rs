//! pvclock, as guests read it (xen/xen.h, `vcpu_time_info`).

use core::sync::atomic::{Ordering, fence};

use crate::area::SharedArea;
use crate::seams::{Clock, PageRef};

/// The flag that says: pvclock reads agree on all vcpus (XEN_PVCLOCK_TSC_STABLE_BIT).
const TSC_STABLE: u8 = 1;

/// Size and offsets of `struct vcpu_time_info`.
pub const TIME_INFO_SIZE: usize = 32;
const TSC_TIMESTAMP: usize = 8;
const FLAGS: usize = 29;

/// One reading of the clock in the guest's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeInfo {
    pub tsc: u64,
    pub system: u64,
    pub mul: u32,
    pub shift: i8,
    pub stable: bool,
}

impl TimeInfo {
    pub fn now(clock: &dyn Clock, tsc_offset: u64) -> Self {
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

/// Where one vcpu's clock is published: its vcpu_info, and a second area that the guest may register.
#[derive(Default)]
pub struct TimePage {
    version: u32,
    secondary: Option<SharedArea>,
}

impl TimePage {
    pub fn set_secondary(&mut self, area: Option<SharedArea>) {
        self.secondary = area;
    }

    pub fn forget(&mut self) {
        self.secondary = None;
    }

    /// Readers retry while the version is odd or changes.
    pub fn publish(&mut self, page: &PageRef, offset: usize, time: &TimeInfo) {
        self.version = self.version.wrapping_add(1) | 1;
        page.word(offset).store(self.version, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        page.write(offset + TSC_TIMESTAMP, &time.encode());
        fence(Ordering::SeqCst);
        self.version = self.version.wrapping_add(1);
        page.word(offset).store(self.version, Ordering::SeqCst);
        page.mark_written();
    }

    pub fn publish_secondary(&mut self, time: &TimeInfo) {
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
