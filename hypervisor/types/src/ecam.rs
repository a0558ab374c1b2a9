//! PCI configuration space in memory (PCI Express, 7.2.2), as the ACPI table MCFG lists it.

use crate::Maddr;

/// One region of configuration space in memory: 1 MiB for each bus, 4 KiB for each function. dom0
/// sees the region at its machine address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EcamRegion {
    /// The address that bus 0 would have, whether or not the region has bus 0.
    pub base: Maddr,
    /// The PCI segment group.
    pub segment: u16,
    /// The first bus of the region.
    pub first_bus: u8,
    /// The last bus of the region.
    pub last_bus: u8,
}

impl EcamRegion {
    /// The first address that the region decodes, and the first address behind the region.
    pub fn range(&self) -> (Maddr, Maddr) {
        let at = |bus: u64| Maddr::new(self.base.raw().saturating_add(bus << 20));
        (at(self.first_bus.into()), at(u64::from(self.last_bus) + 1))
    }

    /// Whether the region has this bus of this segment.
    pub fn has(&self, segment: u16, bus: u8) -> bool {
        self.segment == segment && (self.first_bus..=self.last_bus).contains(&bus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_counts_from_bus_zero() {
        let region = EcamRegion {
            base: Maddr::new(0xb000_0000),
            segment: 1,
            first_bus: 2,
            last_bus: 3,
        };
        let (start, end) = region.range();
        assert_eq!((start.raw(), end.raw()), (0xb020_0000, 0xb040_0000));
        assert!(region.has(1, 3) && !region.has(1, 4) && !region.has(1, 1) && !region.has(0, 2));
    }
}
