//! pvclock and the wall clock, as guests read them (xen/xen.h, `vcpu_time_info`, `shared_info.wc_*`).

use core::sync::atomic::{Ordering, fence};

use crate::area::SharedArea;
use crate::domain::Domain;
use crate::seams::{Clock, PageRef};

/// The flag that says: pvclock reads agree on all vcpus (XEN_PVCLOCK_TSC_STABLE_BIT).
const TSC_STABLE: u8 = 1;

/// Size and offsets of `struct vcpu_time_info`.
pub const TIME_INFO_SIZE: usize = 32;
const TSC_TIMESTAMP: usize = 8;
const FLAGS: usize = 29;

/// Offsets of the wall clock in `struct shared_info`: x86-64.
const WC_VERSION: usize = 3072;
const WC_SEC: usize = 3076;
const WC_NSEC: usize = 3080;
const WC_SEC_HI: usize = 3084;

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

impl Domain {
    /// Writes the domain's wall clock (its time at system time 0) anew. Several CPUs may want to at once,
    /// for platform_op and domctl: one writes at a time, and the last one knows the latest.
    pub fn update_wall_clock(&self) {
        let _writing = self.wall_clock.lock();
        let (seconds, nanoseconds) = self.machine.platform.clock().wall_clock_base();
        let seconds = seconds.wrapping_add_signed(self.time_offset.load(Ordering::Relaxed));
        let page = &self.shared_info;
        let version = page.word(WC_VERSION).load(Ordering::Relaxed);
        page.word(WC_VERSION).store(version | 1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        page.word(WC_SEC).store(seconds as u32, Ordering::Relaxed);
        page.word(WC_SEC_HI)
            .store((seconds >> 32) as u32, Ordering::Relaxed);
        page.word(WC_NSEC).store(nanoseconds, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        page.word(WC_VERSION)
            .store((version | 1).wrapping_add(1), Ordering::SeqCst);
        page.mark_written();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;
    use std::thread;
    use std::time::Duration;

    /// The version as guests read it is no lock among writers: two at a time would leave it even while one
    /// of them still writes.
    #[test]
    fn one_writes_a_wall_clock_at_a_time() {
        let (world, _dom0) = World::new();
        let guest = world.guest(1, 1);
        let read = |at: usize| guest.domain.shared_info.word(at).load(Ordering::SeqCst);
        let seen = || (read(WC_VERSION), read(WC_SEC), read(WC_NSEC));
        let before = seen();
        thread::scope(|scope| {
            let other = guest.domain.wall_clock.lock();
            scope.spawn(|| {
                world.platform.set_wall_clock_base(70, 7);
                guest.domain.update_wall_clock();
            });
            thread::sleep(Duration::from_millis(50));
            assert_eq!(seen(), before, "another one writes");
            // Who waited writes what is set by then.
            world.platform.set_wall_clock_base(80, 8);
            drop(other);
        });
        assert_eq!((read(WC_SEC), read(WC_NSEC)), (80, 8));
        assert!(read(WC_VERSION) != before.0 && read(WC_VERSION).is_multiple_of(2));
    }
}
