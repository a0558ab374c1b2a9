//! What the permission maps of both vendors have in common: bits that may change while vcpus run, one at a
//! time, and the registers that the hardware switches itself.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::x86::{
    MSR_CSTAR, MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE, MSR_LSTAR, MSR_SFMASK, MSR_STAR,
    MSR_SYSENTER_CS, MSR_SYSENTER_EIP, MSR_SYSENTER_ESP,
};

/// MSRs that entries and exits, or `load` and `unload`, switch, so that the guest may have them directly.
pub(crate) const SWITCHED: [u32; 10] = [
    MSR_FS_BASE,
    MSR_GS_BASE,
    MSR_KERNEL_GS_BASE,
    MSR_STAR,
    MSR_LSTAR,
    MSR_CSTAR,
    MSR_SFMASK,
    MSR_SYSENTER_CS,
    MSR_SYSENTER_ESP,
    MSR_SYSENTER_EIP,
];

/// All accesses exit.
pub(crate) fn close(map: &[AtomicU8]) {
    for byte in map {
        byte.store(0xff, Ordering::Relaxed);
    }
}

/// A bit that is on means exit.
pub(crate) fn set(map: &[AtomicU8], bit: usize, on: bool) {
    if let Some(byte) = map.get(bit / 8) {
        let mask = 1u8 << (bit % 8);
        if on {
            byte.fetch_or(mask, Ordering::Relaxed);
        } else {
            byte.fetch_and(!mask, Ordering::Relaxed);
        }
    }
}

/// A number for a domain's controls that no other ever had, and that is not 0.
pub(crate) fn new_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
