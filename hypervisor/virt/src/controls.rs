//! What a domain lets its vcpus do without an exit: the maps of ports and MSRs that the hardware looks at, a set bit
//! meaning exit. They are shared by the vcpus and may change while those run, one bit at a time. Vendors differ in
//! sizes and places only (`svm::maps`, `vmx::maps`).

use alloc::boxed::Box;
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicU8, Ordering};

use bytemuck::Zeroable;
use oxen_types::{Maddr, PAGE_SIZE};

use crate::platform::{ToMaddr, VirtError};
use crate::vmx;
use crate::x86::{
    MSR_CSTAR, MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE, MSR_LSTAR, MSR_SFMASK, MSR_STAR,
    MSR_SYSENTER_CS, MSR_SYSENTER_EIP, MSR_SYSENTER_ESP, MSR_TSC,
};
use crate::zeroed::zeroed_box;

/// MSRs that entries and exits, or `load` and `unload`, switch, so that the guest may have them directly.
const SWITCHED: [u32; 10] = [
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

/// The x2APIC's registers that a guest reads and writes itself where the hardware keeps its local APIC: id, version,
/// task and processor priority, logical destination, ISR, TMR, IRR; task priority, EOI, self-IPI.
const X2APIC_READS: [RangeInclusive<u32>; 5] = [
    0x802..=0x803,
    0x808..=0x808,
    0x80a..=0x80a,
    0x80d..=0x80d,
    0x810..=0x827,
];
const X2APIC_WRITES: [u32; 3] = [0x808, 0x80b, 0x83f];

const IO_PAGES: usize = 3;
const MSR_PAGES: usize = 2;
const PAGE_BITS: usize = PAGE_SIZE * 8;

/// The places of an MSR's bits, for reads and for writes. `None`: all accesses exit.
pub(crate) type MsrBits = fn(u32) -> Option<[usize; 2]>;

/// As large as the larger vendor's: VT-x has two pages of ports and one of MSRs. Its second one of these is for vcpus
/// whose local APIC is in the hardware's hands.
#[derive(Zeroable)]
#[repr(C, align(4096))]
struct Maps {
    io: [AtomicU8; IO_PAGES * 4096],
    msr: [AtomicU8; MSR_PAGES * 4096],
}

/// Everything exits at first, but for MSRs that the hardware switches itself.
pub struct DomainControls {
    maps: Box<Maps>,
    msr_bits: MsrBits,
    to_maddr: ToMaddr,
    /// dom0, which has the machine's devices: the hypervisor does not guard its branches from it.
    pub(crate) trusted: bool,
}

impl DomainControls {
    pub(crate) fn new(msr_bits: MsrBits, to_maddr: ToMaddr) -> Result<Self, VirtError> {
        let maps = zeroed_box::<Maps>()?;
        for byte in maps.io.iter().chain(&maps.msr) {
            byte.store(0xff, Ordering::Relaxed);
        }
        let controls = Self {
            maps,
            msr_bits,
            to_maddr,
            trusted: false,
        };
        for msr in SWITCHED {
            controls.set_msr_direct(msr, true, true);
        }
        // RDMSR applies the TSC offset as RDTSC does.
        controls.set_msr_direct(MSR_TSC, true, false);
        Ok(controls)
    }

    /// With the second map of VT-x.
    pub(crate) fn for_vmx(to_maddr: ToMaddr) -> Result<Self, VirtError> {
        let controls = Self::new(vmx::maps::msr_bits, to_maddr)?;
        let (first, second) = controls.maps.msr.split_at(PAGE_SIZE);
        for (from, to) in first.iter().zip(second) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        for msr in X2APIC_READS.into_iter().flatten() {
            controls.set_x2apic_direct(msr, 0);
        }
        for msr in X2APIC_WRITES {
            controls.set_x2apic_direct(msr, 1);
        }
        Ok(controls)
    }

    fn set_x2apic_direct(&self, msr: u32, which: usize) {
        if let Some(bit) = vmx::maps::msr_bits(msr).and_then(|bits| bits.get(which).copied()) {
            set(&self.maps.msr, PAGE_BITS + bit, false);
        }
    }

    pub(crate) fn io_map(&self) -> Maddr {
        (self.to_maddr)(self.maps.io.as_ptr().addr())
    }

    pub(crate) fn msr_map(&self) -> Maddr {
        (self.to_maddr)(self.maps.msr.as_ptr().addr())
    }

    /// Only for vcpus whose local APIC the hardware keeps: others would reach the machine's own.
    pub(crate) fn x2apic_msr_map(&self) -> Maddr {
        (self.to_maddr)(self.maps.msr.as_ptr().addr() + PAGE_SIZE)
    }

    /// Lets the guest use ports `first..=last` directly, or not.
    pub fn set_ports_direct(&self, first: u16, last: u16, direct: bool) {
        for port in first..=last {
            set(&self.maps.io, usize::from(port), !direct);
        }
    }

    /// Lets the guest read or write an MSR directly, if it is one of those that have bits.
    fn set_msr_direct(&self, msr: u32, read: bool, write: bool) {
        if let Some([reads, writes]) = (self.msr_bits)(msr) {
            set(&self.maps.msr, reads, !read);
            set(&self.maps.msr, writes, !write);
        }
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
    use crate::svm;
    use std::vec::Vec;

    fn controls(msr_bits: MsrBits) -> DomainControls {
        DomainControls::new(msr_bits, |virt| Maddr::new(virt as u64)).unwrap()
    }

    fn byte(map: &[AtomicU8], at: usize) -> u8 {
        map[at].load(Ordering::Relaxed)
    }

    fn clear(map: &[AtomicU8]) -> u32 {
        map.iter()
            .map(|b| b.load(Ordering::Relaxed).count_zeros())
            .sum()
    }

    #[test]
    fn a_new_domain_has_only_switched_msrs() {
        for msr_bits in [svm::maps::msr_bits, vmx::maps::msr_bits] {
            let d = controls(msr_bits);
            assert_eq!(
                [clear(&d.maps.msr), clear(&d.maps.io)],
                [SWITCHED.len() as u32 * 2 + 1, 0]
            );
            assert_eq!(d.io_map().page_offset() | d.msr_map().page_offset(), 0);
        }
        let (amd, intel) = (controls(svm::maps::msr_bits), controls(vmx::maps::msr_bits));
        // STAR, LSTAR, CSTAR, SFMASK are 0x81 to 0x84 of the high MSRs.
        assert_eq!(byte(&amd.maps.msr, 0x820), 0b0000_0011);
        assert_eq!(byte(&amd.maps.msr, 0x821), 0b1111_1100);
        assert_eq!(byte(&intel.maps.msr, 1024 + 0x10), 0b1110_0001);
        assert_eq!(byte(&intel.maps.msr, 3072 + 0x10), 0b1110_0001);
        // SYSENTER: 0x174 to 0x176. The TSC: reads only.
        assert_eq!(byte(&intel.maps.msr, 2048 + 0x2e), 0b1000_1111);
        assert_eq!(byte(&intel.maps.msr, 2), 0b1111_1110);
        assert_eq!(byte(&intel.maps.msr, 2048 + 2), 0xff);
    }

    #[test]
    fn the_second_map_opens_the_apic_and_nothing_else() {
        let d = DomainControls::for_vmx(|virt| Maddr::new(virt as u64)).unwrap();
        let (first, second) = d.maps.msr.split_at(PAGE_SIZE);
        assert_eq!(d.x2apic_msr_map().raw(), d.msr_map().raw() + 4096);
        let more: Vec<_> = (0..PAGE_SIZE)
            .filter(|at| byte(first, *at) != byte(second, *at))
            .collect();
        // 0x800 to 0x827 for reads; 0x808 and 0x80b, 0x83f for writes.
        assert_eq!(more, [0x100, 0x101, 0x102, 0x103, 0x104, 0x901, 0x907]);
        let opened = [0x100, 0x101, 0x102, 0x103, 0x104].map(|at| !byte(second, at));
        assert_eq!(opened, [0x0c, 0x25, 0xff, 0xff, 0xff]);
        assert_eq!([0x901, 0x907].map(|at| !byte(second, at)), [0x09, 0x80]);
        assert!((0x100..0x108).all(|at| byte(first, at) == 0xff));
    }

    #[test]
    fn ports_open_and_close() {
        let d = controls(svm::maps::msr_bits);
        d.set_ports_direct(0x60, 0x64, true);
        assert_eq!(byte(&d.maps.io, 0x60 / 8), 0b1110_0000);
        d.set_ports_direct(0x62, 0x62, false);
        assert_eq!(byte(&d.maps.io, 0x60 / 8), 0b1110_0100);
        d.set_ports_direct(0xffff, 0xffff, true);
        assert_eq!(byte(&d.maps.io, 0x1fff), 0x7f);
        assert_eq!(byte(&d.maps.io, 0x2000), 0xff);
    }
}
