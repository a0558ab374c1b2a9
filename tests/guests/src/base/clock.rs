//! System time by the page that the hypervisor shares (pvclock, xen/xen.h).

use core::arch::x86_64::_rdtsc;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering, fence};

use guest_pv_abi as abi;

use super::hypercall;

#[repr(C, align(4096))]
struct Page(UnsafeCell<[u8; 4096]>);

// SAFETY: it is a place in the guest's physical memory, read with volatile accesses only.
unsafe impl Sync for Page {}

/// Becomes the shared page.
static SHARED: Page = Page(UnsafeCell::new([0; 4096]));
static MAPPED: AtomicBool = AtomicBool::new(false);

/// The page, mapped at first use.
pub fn shared() -> *mut abi::SharedInfo {
    let page: *mut abi::SharedInfo = SHARED.0.get().cast();
    if !MAPPED.swap(true, Ordering::SeqCst) {
        let mut add = abi::AddToPhysmap {
            domid: abi::DOMID_SELF,
            size: 0,
            space: abi::XENMAPSPACE_SHARED_INFO,
            idx: 0,
            gpfn: page as u64 >> 12,
        };
        let result = hypercall::memory(abi::XENMEM_ADD_TO_PHYSMAP, &mut add);
        assert!(result == 0, "no shared page: {result}");
    }
    page
}

/// The page has been mapped elsewhere: back with it.
pub fn map_again() {
    MAPPED.store(false, Ordering::SeqCst);
    let _ = shared();
}

/// Nanoseconds since the domain's start, by the first vcpu's record.
pub fn now() -> u64 {
    now_of(0)
}

/// The same by a vcpu's own record.
pub fn now_of(vcpu: usize) -> u64 {
    // SAFETY: the page is mapped, `vcpu` is one of 32.
    let time = unsafe { &raw const (*shared()).vcpu_info[vcpu % 32].time };
    loop {
        // SAFETY: as above; a torn copy is seen by its version and not used.
        let before = unsafe { (&raw const (*time).version).read_volatile() };
        fence(Ordering::SeqCst);
        // SAFETY: as above.
        let copy = unsafe { time.read_volatile() };
        // SAFETY: reads a counter.
        let tsc = unsafe { _rdtsc() };
        fence(Ordering::SeqCst);
        // SAFETY: as above.
        let after = unsafe { (&raw const (*time).version).read_volatile() };
        if before == after && before & 1 == 0 {
            let ticks = tsc.wrapping_sub(copy.tsc_timestamp);
            let shifted = if copy.tsc_shift >= 0 {
                ticks << copy.tsc_shift
            } else {
                ticks >> -copy.tsc_shift
            };
            let passed = (u128::from(shifted) * u128::from(copy.tsc_to_system_mul)) >> 32;
            return copy.system_time.wrapping_add(passed as u64);
        }
        core::hint::spin_loop();
    }
}

pub fn sleep_ms(milliseconds: u64) {
    let until = now() + milliseconds * 1_000_000;
    while now() < until {
        hypercall::poll(&[], until);
    }
}

/// When a test that runs for a time has to end.
#[derive(Clone, Copy)]
pub struct Deadline(u64);

impl Deadline {
    pub fn after_seconds(seconds: u64) -> Self {
        Self(now() + seconds * 1_000_000_000)
    }

    pub fn is_over(self) -> bool {
        now() >= self.0
    }
}
