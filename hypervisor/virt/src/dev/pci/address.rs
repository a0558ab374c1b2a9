//! From an access of a port or of memory to a function's register.

use oxen_types::EcamRegion;

use super::host::Sbdf;
use super::pages::Pages;
use super::regs::CONFIG_SIZE;

/// One configuration access after decoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Target {
    pub(super) sbdf: Sbdf,
    pub(super) reg: u16,
}

const ENABLE: u32 = 1 << 31;

/// Mechanism #1: the address register selects a register of segment 0, `lane` a byte in it.
pub(super) fn from_cf8(cf8: u32, lane: u16) -> Option<Target> {
    (cf8 & ENABLE != 0).then_some(Target {
        sbdf: Sbdf {
            segment: 0,
            bdf: (cf8 >> 8) as u16,
        },
        reg: (cf8 & 0xfc) as u16 | lane & 3,
    })
}

/// The pages that a region of configuration space decodes. `None` if they do not lie below 2^64.
pub(super) fn ecam_pages(region: &EcamRegion) -> Option<Pages> {
    let bus = |number: u8| u64::from(number) << 20;
    let size = (bus(region.last_bus) + bus(1)).checked_sub(bus(region.first_bus))?;
    Pages::covering(region.base.raw().checked_add(bus(region.first_bus))?, size)
}

/// The register at an address of configuration space in memory, if it lies in the region.
pub(super) fn from_ecam(region: &EcamRegion, gpa: u64) -> Option<Target> {
    let offset = gpa.checked_sub(region.base.raw())?;
    let bdf = u16::try_from(offset / u64::from(CONFIG_SIZE)).ok()?;
    let segment = region.segment;
    let sbdf = Sbdf { segment, bdf };
    region.has(segment, sbdf.bus()).then_some(Target {
        sbdf,
        reg: (offset % u64::from(CONFIG_SIZE)) as u16,
    })
}

/// Aligned accesses of 1, 2 or 4 bytes exist; anything else is answered like an absent function.
pub(super) fn is_access(reg: u16, size: u8) -> bool {
    matches!(size, 1 | 2 | 4) && reg.is_multiple_of(u16::from(size))
}

#[cfg(test)]
mod tests {
    use oxen_types::Maddr;

    use super::*;

    #[test]
    fn cf8_fields() {
        let target = from_cf8(0x8000_fa10, 2).unwrap();
        assert_eq!(target.sbdf, Sbdf::new(0, 0, 0x1f, 2));
        assert_eq!(target.reg, 0x12);
        assert_eq!(from_cf8(0x0000_fa10, 0), None);
    }

    #[test]
    fn mmcfg_counts_from_bus_zero() {
        let region = EcamRegion {
            base: Maddr::new(0xb000_0000),
            segment: 1,
            first_bus: 2,
            last_bus: 3,
        };
        let target = from_ecam(&region, 0xb020_0000 + (9 << 12) + 0x104).unwrap();
        assert_eq!(target.sbdf, Sbdf::new(1, 2, 1, 1));
        assert_eq!(target.reg, 0x104);
        assert_eq!(from_ecam(&region, 0xb010_0000), None);
        assert_eq!(from_ecam(&region, 0xb040_0000), None);
        assert_eq!(from_ecam(&region, 0), None);
        assert_eq!(from_ecam(&region, u64::MAX), None);
    }

    #[test]
    fn only_aligned_accesses() {
        assert!(is_access(4, 4) && is_access(6, 2) && is_access(7, 1));
        assert!(!is_access(2, 4) && !is_access(1, 2) && !is_access(0, 8) && !is_access(0, 0));
    }
}
