//! The permission maps of a domain (SDM volume 3, 25.6.4 and 25.6.9): a set bit means exit. They are
//! shared by its vcpus and may change while those run, one bit at a time.

use alloc::boxed::Box;
use core::sync::atomic::AtomicU8;

use oxen_types::Maddr;
use zerocopy::{FromZeros, KnownLayout};

use crate::permissions::{SWITCHED, close, new_id, set};
use crate::platform::{ToMaddr, VirtError};
use crate::x86::MSR_TSC;

/// 65,536 ports, one bit each: maps A and B.
#[derive(FromZeros, KnownLayout)]
#[repr(C, align(4096))]
struct IoMap([AtomicU8; 2 * 4096]);

/// Reads of low and high MSRs, then writes: 1 KiB each.
#[derive(FromZeros, KnownLayout)]
#[repr(C, align(4096))]
struct MsrMap([AtomicU8; 4096]);

const WRITES: usize = 2048 * 8;

pub struct VmxDomain {
    io: Box<IoMap>,
    msr: Box<MsrMap>,
    to_maddr: ToMaddr,
    /// Tells domains apart.
    pub(super) id: u64,
}

impl VmxDomain {
    pub fn new(to_maddr: ToMaddr) -> Result<Self, VirtError> {
        let io = IoMap::new_box_zeroed().map_err(|_| VirtError::NoMemory)?;
        let msr = MsrMap::new_box_zeroed().map_err(|_| VirtError::NoMemory)?;
        close(&io.0);
        close(&msr.0);
        let domain = Self {
            io,
            msr,
            to_maddr,
            id: new_id(),
        };
        for msr in SWITCHED {
            domain.set_msr_direct(msr, true, true);
        }
        // RDMSR applies the TSC offset as RDTSC does.
        domain.set_msr_direct(MSR_TSC, true, false);
        Ok(domain)
    }

    /// Of ports below 0x8000; those of the others follow.
    pub(super) fn io_map(&self) -> Maddr {
        (self.to_maddr)(self.io.0.as_ptr().addr())
    }

    pub(super) fn msr_map(&self) -> Maddr {
        (self.to_maddr)(self.msr.0.as_ptr().addr())
    }

    /// Lets the guest use ports `first..=last` directly, or not.
    pub fn set_ports_direct(&self, first: u16, last: u16, direct: bool) {
        for port in first..=last {
            set(&self.io.0, usize::from(port), !direct);
        }
    }

    /// Lets the guest read or write an MSR directly. Outside the two ranges all accesses exit.
    pub fn set_msr_direct(&self, msr: u32, read: bool, write: bool) {
        if let Some(bit) = msr_bit(msr) {
            set(&self.msr.0, bit, !read);
            set(&self.msr.0, bit + WRITES, !write);
        }
    }
}

/// The number of an MSR's bit for reads; the one for writes is `WRITES` further.
fn msr_bit(msr: u32) -> Option<usize> {
    match msr {
        0..=0x1fff => Some(msr as usize),
        0xc000_0000..=0xc000_1fff => Some(1024 * 8 + (msr - 0xc000_0000) as usize),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::Ordering;

    fn domain() -> VmxDomain {
        VmxDomain::new(|virt| Maddr::new(virt as u64)).unwrap()
    }

    fn byte(map: &[AtomicU8], at: usize) -> u8 {
        map[at].load(Ordering::Relaxed)
    }

    #[test]
    fn a_new_domain_has_only_switched_msrs() {
        let d = domain();
        let clear = |map: &[AtomicU8]| -> u32 {
            map.iter()
                .map(|b| b.load(Ordering::Relaxed).count_zeros())
                .sum()
        };
        assert_eq!([clear(&d.msr.0), clear(&d.io.0)], [10 * 2 + 1, 0]);
        // STAR, LSTAR, CSTAR, SFMASK are 0x81 to 0x84 of the high MSRs.
        assert_eq!(byte(&d.msr.0, 1024 + 0x10), 0b1110_0001);
        assert_eq!(byte(&d.msr.0, 3072 + 0x10), 0b1110_0001);
        // SYSENTER: 0x174 to 0x176.
        assert_eq!(byte(&d.msr.0, 2048 + 0x2e), 0b1000_1111);
        assert_eq!(byte(&d.msr.0, 2), 0b1111_1110);
        assert_eq!(byte(&d.msr.0, 2048 + 2), 0xff);
        assert_eq!(d.io_map().page_offset() | d.msr_map().page_offset(), 0);
    }

    #[test]
    fn msrs_outside_the_ranges_have_no_bit() {
        assert_eq!(
            [msr_bit(0x2000), msr_bit(0x4000_0000), msr_bit(0xc001_0000)],
            [None; 3]
        );
        assert_eq!(msr_bit(0xc000_1fff), Some(2048 * 8 - 1));
    }

    #[test]
    fn ports_open_and_close() {
        let d = domain();
        d.set_ports_direct(0x60, 0x64, true);
        d.set_ports_direct(0x62, 0x62, false);
        assert_eq!(byte(&d.io.0, 0x60 / 8), 0b1110_0100);
        d.set_ports_direct(0xffff, 0xffff, true);
        assert_eq!(byte(&d.io.0, 0x1fff), 0x7f);
    }
}
