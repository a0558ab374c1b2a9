//! The permission maps of VT-x (SDM volume 3, 25.6.4 and 25.6.9): two pages for ports, one page for
//! MSRs, with 1 KiB each for reads of low and of high MSRs and for writes of both.
//!
//! A second page for MSRs is for vcpus whose local APIC is lent to the hardware.

use core::ops::RangeInclusive;

use oxen_types::{Maddr, PAGE_SIZE};

use crate::error::VirtError;
use crate::permission_maps::DomainControls;
use crate::zeroed::ToMaddr;

const WRITES: usize = 2048 * 8;
/// The page for vcpus with a lent local APIC.
const LENT: usize = 1;

// The x2APIC's registers that a guest accesses itself while the local APIC is lent.

/// Reads: id, version, task and processor priority, logical destination, ISR, TMR, IRR.
const X2APIC_READS: [RangeInclusive<u32>; 5] = [
    0x802..=0x803,
    0x808..=0x808,
    0x80a..=0x80a,
    0x80d..=0x80d,
    0x810..=0x827,
];
/// Writes: task priority, EOI, self-IPI.
const X2APIC_WRITES: [u32; 3] = [0x808, 0x80b, 0x83f];

/// The maps of a new domain.
pub(super) fn new(trusted: bool, to_maddr: ToMaddr) -> Result<DomainControls, VirtError> {
    let controls = DomainControls::new(trusted, msr_bits, to_maddr)?;
    controls.copy_msr_page();
    let open = |bit: usize| controls.open_msr(LENT * PAGE_SIZE * 8 + bit);
    for [read, _] in X2APIC_READS.into_iter().flatten().filter_map(msr_bits) {
        open(read);
    }
    for [_, write] in X2APIC_WRITES.into_iter().filter_map(msr_bits) {
        open(write);
    }
    Ok(controls)
}

/// The MSR map for vcpus whose local APIC is lent, or is not. With the map of a lent one, others
/// would reach the machine's own APIC.
pub(super) fn msr_map(controls: &DomainControls, lent: bool) -> Maddr {
    controls.msr_map(if lent { LENT } else { 0 })
}

fn msr_bits(msr: u32) -> Option<[usize; 2]> {
    let read = match msr {
        0..=0x1fff => msr as usize,
        0xc000_0000..=0xc000_1fff => 1024 * 8 + (msr - 0xc000_0000) as usize,
        _ => return None,
    };
    Some([read, read + WRITES])
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::permission_maps::SWITCHED;

    fn domain() -> DomainControls {
        new(false, |virt| Maddr::new(virt as u64)).unwrap()
    }

    #[test]
    fn a_new_domain_has_only_switched_msrs() {
        let d = domain();
        let reads: u32 = X2APIC_READS
            .into_iter()
            .map(|range| range.count() as u32)
            .sum();
        let opened = reads + X2APIC_WRITES.len() as u32;
        let switched = SWITCHED.len() as u32 * 2 + 1;
        assert_eq!(d.clear_bits(), [2 * switched + opened, 0]);
        assert_eq!(d.msr_byte(1024 + 0x10), 0b1110_0001);
        assert_eq!(d.msr_byte(3072 + 0x10), 0b1110_0001);
        // SYSENTER: 0x174 to 0x176. The TSC: reads only.
        assert_eq!(d.msr_byte(2048 + 0x2e), 0b1000_1111);
        assert_eq!(d.msr_byte(2), 0b1111_1110);
        assert_eq!(d.msr_byte(2048 + 2), 0xff);
    }

    #[test]
    fn the_map_of_a_lent_apic_opens_its_registers_and_nothing_else() {
        let d = domain();
        let first = |at: usize| d.msr_byte(at);
        let second = |at: usize| d.msr_byte(PAGE_SIZE + at);
        assert_eq!(msr_map(&d, true).raw(), msr_map(&d, false).raw() + 4096);
        let more: Vec<_> = (0..PAGE_SIZE)
            .filter(|at| first(*at) != second(*at))
            .collect();
        // 0x800 to 0x827 for reads; 0x808 and 0x80b, 0x83f for writes.
        assert_eq!(more, [0x100, 0x101, 0x102, 0x103, 0x104, 0x901, 0x907]);
        let opened = [0x100, 0x101, 0x102, 0x103, 0x104].map(|at| !second(at));
        assert_eq!(opened, [0x0c, 0x25, 0xff, 0xff, 0xff]);
        assert_eq!([0x901, 0x907].map(|at| !second(at)), [0x09, 0x80]);
        assert!((0x100..0x108).all(|at| first(at) == 0xff));
    }

    #[test]
    fn msrs_outside_the_ranges_have_no_bit() {
        assert_eq!(
            [
                msr_bits(0x2000),
                msr_bits(0x4000_0000),
                msr_bits(0xc001_0000)
            ],
            [None; 3]
        );
        assert_eq!(msr_bits(0xc000_1fff), Some([2048 * 8 - 1, 4096 * 8 - 1]));
    }
}
