//! The shared_info page: its place in the guest's memory, and the wall clock in it
//! (xen/xen.h, `struct shared_info`).

use core::mem::offset_of;
use core::sync::atomic::{Ordering, fence};

use guest_pv_abi::SharedInfo;
use oxen_types::{Errno, Gfn, Result};
use spin::Mutex;

use super::Domain;
use crate::seams::{MapKind, PageRef};

/// Offsets of the wall clock in `struct shared_info`.
const WC_VERSION: usize = offset_of!(SharedInfo, wc_version);
const WC_SEC: usize = offset_of!(SharedInfo, wc_sec);
const WC_NSEC: usize = offset_of!(SharedInfo, wc_nsec);
const WC_SEC_HI: usize = offset_of!(SharedInfo, wc_sec_hi);

pub(super) struct SharedPages {
    /// The hypervisor's frame. The guest sees it once it has asked for it to be mapped.
    info: PageRef,
    /// Where the guest sees it. Held while it is mapped, which may wait for a flush; so this is not
    /// the lock of the wall clock.
    place: Mutex<Option<Gfn>>,
    /// Seconds that the domain's wall clock is ahead of the machine's. Held by whoever writes the
    /// wall clock.
    wall_clock: Mutex<i64>,
}

impl SharedPages {
    pub(super) fn new(info: PageRef) -> Self {
        Self {
            info,
            place: Mutex::new(None),
            wall_clock: Mutex::new(0),
        }
    }
}

impl Domain {
    /// The shared_info frame.
    pub fn shared_info(&self) -> &PageRef {
        &self.shared.info
    }

    /// Where the guest sees its shared_info, if it does.
    pub fn shared_info_gfn(&self) -> Option<Gfn> {
        *self.shared.place.lock()
    }

    /// Maps shared_info at `gfn`, and unmaps it where it was (XENMAPSPACE_shared_info).
    ///
    /// # Errors
    /// `NoMem` if one more reference to the frame cannot be counted, and what `GuestMemory::map`
    /// returns.
    pub fn map_shared_info(&self, gfn: Gfn) -> Result<()> {
        let mut place = self.shared.place.lock();
        let page = self.shared.info.try_clone().ok_or(Errno::NoMem)?;
        let mfn = page.mfn();
        self.memory.map(gfn, page, MapKind::Xen)?;
        if let Some(old) = place.replace(gfn).filter(|old| *old != gfn) {
            // The guest may have put another frame there meanwhile: then there is nothing to unmap.
            let _ = self.memory.unmap(old, mfn, MapKind::Xen);
        }
        Ok(())
    }

    /// Sets how many seconds the domain's wall clock is ahead of the machine's.
    pub fn set_time_offset(&self, seconds: i64) {
        *self.shared.wall_clock.lock() = seconds;
        self.update_wall_clock();
    }

    /// Writes the domain's wall clock: its time at system time 0. Several CPUs may want to at once,
    /// for platform_op and domctl. One writes at a time, and the last one knows the latest time.
    pub fn update_wall_clock(&self) {
        let offset = self.shared.wall_clock.lock();
        let (seconds, nanoseconds) = self.machine.platform.clock().wall_clock_base();
        let seconds = seconds.wrapping_add_signed(*offset);
        let page = &self.shared.info;
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
    use crate::seams::Clock;
    use crate::testing::World;
    use std::thread;
    use std::time::Duration;

    /// The version as guests read it is no lock among writers: two at a time would leave it even
    /// while one of them still writes.
    #[test]
    fn one_writes_a_wall_clock_at_a_time() {
        let (world, _dom0) = World::new();
        let guest = world.guest(1, 1);
        let read = |at: usize| guest.domain.shared_info().word(at).load(Ordering::SeqCst);
        let seen = || (read(WC_VERSION), read(WC_SEC), read(WC_NSEC));
        let before = seen();
        thread::scope(|scope| {
            let other = guest.domain.shared.wall_clock.lock();
            world.platform.set_wall_clock_base(70, 7);
            scope.spawn(|| guest.domain.update_wall_clock());
            // Time for a fault to show. Right code passes however late the other thread comes.
            thread::sleep(Duration::from_millis(50));
            assert_eq!(seen(), before, "another one writes");
            // Whoever waited writes the time that is set by then.
            world.platform.set_wall_clock_base(80, 8);
            drop(other);
        });
        assert_eq!((read(WC_SEC), read(WC_NSEC)), (80, 8));
        assert!(read(WC_VERSION) != before.0 && read(WC_VERSION).is_multiple_of(2));
    }
}
