//! The ports and MSRs that a domain's vcpus access without an exit: the permission maps of the
//! hardware, in which a set bit means an exit. The vcpus share the maps, which may change, one bit
//! at a time, while vcpus run.
//!
//! The vendors' maps differ in size and in the places of bits: each builds its own (`svm::maps`,
//! `vmx::maps`).

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU8, Ordering};

use bytemuck::Zeroable;
use oxen_types::{Maddr, PAGE_SIZE};

use crate::error::VirtError;
use crate::x86::{
    MSR_CSTAR, MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE, MSR_LSTAR, MSR_SFMASK, MSR_STAR,
    MSR_SYSENTER_CS, MSR_SYSENTER_EIP, MSR_SYSENTER_ESP, MSR_TSC,
};
use crate::zeroed::{ToMaddr, zeroed_box};

/// MSRs that entries and exits, or `load` and `unload`, switch: the guest accesses them directly.
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

/// Pages of the larger vendor's maps. Each vendor uses them in its own way.
const IO_PAGES: usize = 3;
const MSR_PAGES: usize = 2;

/// The bits of an MSR in the MSR map, for reads and for writes. `None` if each access exits.
pub(crate) type MsrBits = fn(u32) -> Option<[usize; 2]>;

#[derive(Zeroable)]
#[repr(C, align(4096))]
struct Maps {
    io: [AtomicU8; IO_PAGES * PAGE_SIZE],
    msr: [AtomicU8; MSR_PAGES * PAGE_SIZE],
}

/// The permission maps of one domain.
pub struct DomainControls {
    maps: Box<Maps>,
    to_maddr: ToMaddr,
    /// The domain is dom0, which has the machine's devices: the hypervisor does not protect its own
    /// branch predictions from the domain.
    pub(crate) trusted: bool,
}

impl DomainControls {
    /// Maps with which each port and MSR exits, but for MSRs that the hardware switches. `msr_bits`
    /// gives the places of an MSR's bits.
    pub(crate) fn new(
        trusted: bool,
        msr_bits: MsrBits,
        to_maddr: ToMaddr,
    ) -> Result<Self, VirtError> {
        let maps = zeroed_box::<Maps>()?;
        for byte in maps.io.iter().chain(&maps.msr) {
            byte.store(0xff, Ordering::Relaxed);
        }
        let controls = Self {
            maps,
            to_maddr,
            trusted,
        };
        for bit in SWITCHED.into_iter().filter_map(msr_bits).flatten() {
            controls.open_msr(bit);
        }
        // RDMSR of the TSC applies the TSC offset, as RDTSC does. Writes exit.
        if let Some([read, _]) = msr_bits(MSR_TSC) {
            controls.open_msr(read);
        }
        Ok(controls)
    }

    /// The machine address of the map of ports.
    pub(crate) fn io_map(&self) -> Maddr {
        (self.to_maddr)(self.maps.io.as_ptr().addr())
    }

    /// The machine address of the map of MSRs, from this page of the map on.
    pub(crate) fn msr_map(&self, page: usize) -> Maddr {
        (self.to_maddr)(self.maps.msr.as_ptr().addr() + page * PAGE_SIZE)
    }

    /// Makes accesses with this bit of the MSR map direct.
    pub(crate) fn open_msr(&self, bit: usize) {
        set(&self.maps.msr, bit, false);
    }

    /// Copies the first page of the MSR map to the second.
    pub(crate) fn copy_msr_page(&self) {
        let (first, second) = self.maps.msr.split_at(PAGE_SIZE);
        for (from, to) in first.iter().zip(second) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Lets the guest access ports `first..=last` directly, or makes the accesses exit.
    pub fn set_ports_direct(&self, first: u16, last: u16, direct: bool) {
        for port in first..=last {
            set(&self.maps.io, usize::from(port), !direct);
        }
    }

    /// A byte of the map of ports.
    #[cfg(test)]
    pub(crate) fn io_byte(&self, at: usize) -> u8 {
        self.maps.io[at].load(Ordering::Relaxed)
    }

    /// A byte of the map of MSRs.
    #[cfg(test)]
    pub(crate) fn msr_byte(&self, at: usize) -> u8 {
        self.maps.msr[at].load(Ordering::Relaxed)
    }

    /// The numbers of clear bits in the map of MSRs and in the map of ports.
    #[cfg(test)]
    pub(crate) fn clear_bits(&self) -> [u32; 2] {
        let clear = |map: &[AtomicU8]| {
            let bytes = map.iter().map(|byte| byte.load(Ordering::Relaxed));
            bytes.map(u8::count_zeros).sum()
        };
        [clear(&self.maps.msr), clear(&self.maps.io)]
    }
}

fn set(map: &[AtomicU8], bit: usize, on: bool) {
    if let Some(byte) = map.get(bit / 8) {
        let mask = 1u8 << (bit % 8);
        if on {
            byte.fetch_or(mask, Ordering::Relaxed);
        } else {
            byte.fetch_and(!mask, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_open_and_close() {
        let d = DomainControls::new(false, |_| None, |virt| Maddr::new(virt as u64)).unwrap();
        assert_eq!(d.clear_bits(), [0, 0]);
        assert_eq!(d.io_map().page_offset() | d.msr_map(1).page_offset(), 0);
        d.set_ports_direct(0x60, 0x64, true);
        assert_eq!(d.io_byte(0x60 / 8), 0b1110_0000);
        d.set_ports_direct(0x62, 0x62, false);
        assert_eq!(d.io_byte(0x60 / 8), 0b1110_0100);
        d.set_ports_direct(0xffff, 0xffff, true);
        assert_eq!(d.io_byte(0x1fff), 0x7f);
        assert_eq!(d.io_byte(0x2000), 0xff);
    }
}
