//! The permission maps of AMD-V (APM volume 2, 15.10 and 15.11): three pages for ports, two pages
//! for MSRs, with two bits for each MSR of three ranges.

use crate::error::VirtError;
use crate::permission_maps::DomainControls;
use crate::zeroed::ToMaddr;

/// The maps of a new domain.
pub(super) fn new(trusted: bool, to_maddr: ToMaddr) -> Result<DomainControls, VirtError> {
    DomainControls::new(trusted, msr_bits, to_maddr)
}

fn msr_bits(msr: u32) -> Option<[usize; 2]> {
    let (base, range) = match msr {
        0..=0x1fff => (0, 0),
        0xc000_0000..=0xc000_1fff => (0xc000_0000, 1),
        0xc001_0000..=0xc001_1fff => (0xc001_0000, 2),
        _ => return None,
    };
    let read = range * 0x800 * 8 + (msr - base) as usize * 2;
    Some([read, read + 1])
}

#[cfg(test)]
mod tests {
    use oxen_types::Maddr;

    use super::*;
    use crate::permission_maps::SWITCHED;

    #[test]
    fn a_new_domain_has_only_switched_msrs() {
        let d = new(false, |virt| Maddr::new(virt as u64)).unwrap();
        assert_eq!(d.clear_bits(), [SWITCHED.len() as u32 * 2 + 1, 0]);
        // STAR, LSTAR, CSTAR, SFMASK are 0x81 to 0x84 of the high MSRs.
        assert_eq!(d.msr_byte(0x820), 0b0000_0011);
        assert_eq!(d.msr_byte(0x821), 0b1111_1100);
    }

    #[test]
    fn msr_bits_lie_where_the_manual_says() {
        let read = |msr| msr_bits(msr).map(|[read, _]| read);
        assert_eq!(msr_bits(0), Some([0, 1]));
        assert_eq!(read(0x174), Some(0x174 * 2));
        assert_eq!(read(0x1fff), Some(0x800 * 8 - 2));
        assert_eq!(read(0xc000_0000), Some(0x800 * 8));
        assert_eq!(read(0xc001_0000), Some(0x1000 * 8));
        assert_eq!(read(0xc001_1fff), Some(0x1800 * 8 - 2));
        assert_eq!(
            [read(0x2000), read(0x4000_0000), read(0xc000_2000)],
            [None; 3]
        );
    }
}
