//! The permission maps of a domain (APM 15.10, 15.11): a set bit means intercept. They are shared
//! by its vcpus and may change while those run, one bit at a time.

use alloc::boxed::Box;
use core::sync::atomic::AtomicU8;

use oxen_types::Maddr;
use zerocopy::{FromZeros, KnownLayout};

use crate::permissions::{SWITCHED, close, new_id, set};
use crate::platform::{ToMaddr, VirtError};
use crate::x86::MSR_TSC;

/// 65,536 ports, one bit each, and slack for accesses that run over the end.
#[derive(FromZeros, KnownLayout)]
#[repr(C, align(4096))]
struct IoMap([AtomicU8; 3 * 4096]);

/// Two bits (read, write) for each MSR of three ranges.
#[derive(FromZeros, KnownLayout)]
#[repr(C, align(4096))]
struct MsrMap([AtomicU8; 2 * 4096]);

pub struct SvmDomain {
    io: Box<IoMap>,
    msr: Box<MsrMap>,
    to_maddr: ToMaddr,
    /// Tells domains apart.
    pub(super) id: u64,
}

impl SvmDomain {
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

    pub fn io_map(&self) -> Maddr {
        (self.to_maddr)(self.io.0.as_ptr().addr())
    }

    pub fn msr_map(&self) -> Maddr {
        (self.to_maddr)(self.msr.0.as_ptr().addr())
    }

    /// Lets the guest use ports `first..=last` directly, or not.
    pub fn set_ports_direct(&self, first: u16, last: u16, direct: bool) {
        for port in first..=last {
            set(&self.io.0, usize::from(port), !direct);
        }
    }

    /// Lets the guest read or write an MSR directly. Outside the three ranges all accesses exit.
    pub fn set_msr_direct(&self, msr: u32, read: bool, write: bool) {
        if let Some(bit) = msr_bit(msr) {
            set(&self.msr.0, bit, !read);
            set(&self.msr.0, bit + 1, !write);
        }
    }
}

/// The number of the read bit of an MSR; the write bit follows it.
fn msr_bit(msr: u32) -> Option<usize> {
    let (base, range) = match msr {
        0..=0x1fff => (0, 0),
        0xc000_0000..=0xc000_1fff => (0xc000_0000, 1),
        0xc001_0000..=0xc001_1fff => (0xc001_0000, 2),
        _ => return None,
    };
    Some(range * 0x800 * 8 + (msr - base) as usize * 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::Ordering;

    fn domain() -> SvmDomain {
        SvmDomain::new(|virt| Maddr::new(virt as u64)).unwrap()
    }

    fn byte(map: &[AtomicU8], at: usize) -> u8 {
        map[at].load(Ordering::Relaxed)
    }

    #[test]
    fn msr_bits_lie_where_the_manual_says() {
        assert_eq!(msr_bit(0), Some(0));
        assert_eq!(msr_bit(0x174), Some(0x174 * 2));
        assert_eq!(msr_bit(0x1fff), Some(0x800 * 8 - 2));
        assert_eq!(msr_bit(0xc000_0000), Some(0x800 * 8));
        assert_eq!(msr_bit(0xc001_0000), Some(0x1000 * 8));
        assert_eq!(msr_bit(0xc001_1fff), Some(0x1800 * 8 - 2));
        assert_eq!(
            [msr_bit(0x2000), msr_bit(0x4000_0000), msr_bit(0xc000_2000)],
            [None; 3]
        );
    }

    #[test]
    fn a_new_domain_has_only_switched_msrs() {
        let d = domain();
        let clear: u32 = d
            .msr
            .0
            .iter()
            .map(|b| b.load(Ordering::Relaxed).count_zeros())
            .sum();
        assert_eq!(clear, 10 * 2 + 1);
        // STAR, LSTAR, CSTAR are MSRs 0x81 to 0x83 of the second range; SFMASK begins a byte.
        assert_eq!(byte(&d.msr.0, 0x820), 0b0000_0011);
        assert_eq!(byte(&d.msr.0, 0x821), 0b1111_1100);
        assert!(d.io.0.iter().all(|b| b.load(Ordering::Relaxed) == 0xff));
        assert_eq!(d.io_map().page_offset(), 0);
        assert_eq!(d.msr_map().page_offset(), 0);
    }

    #[test]
    fn ports_open_and_close() {
        let d = domain();
        d.set_ports_direct(0x60, 0x64, true);
        assert_eq!(byte(&d.io.0, 0x60 / 8), 0b1110_0000);
        d.set_ports_direct(0x62, 0x62, false);
        assert_eq!(byte(&d.io.0, 0x60 / 8), 0b1110_0100);
        d.set_ports_direct(0xffff, 0xffff, true);
        assert_eq!(byte(&d.io.0, 0x1fff), 0x7f);
        assert_eq!(byte(&d.io.0, 0x2000), 0xff);
    }
}
