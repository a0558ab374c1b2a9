//! The order in which a local APIC is set up (Intel SDM 3, 11.4.7 and 11.5.1).

use alloc::vec;
use alloc::vec::Vec;

use crate::vectors;

const TPR: u32 = 0x80;
const SPURIOUS: u32 = 0xf0;
pub(super) const ERROR_STATUS: u32 = 0x280;
pub(super) const LVT_TIMER: u32 = 0x320;
const LVT_THERMAL: u32 = 0x330;
const LVT_PERF: u32 = 0x340;
const LVT_LINT0: u32 = 0x350;
const LVT_LINT1: u32 = 0x360;
const LVT_ERROR: u32 = 0x370;

pub(super) const LVT_MASKED: u32 = 1 << 16;
/// Of the spurious vector's register: the APIC is enabled by software.
const ENABLED: u32 = 1 << 8;

/// Registers and their values in the order of writing. The APIC is enabled first: INIT disables it,
/// and in a disabled APIC entries of the local vector table stay masked, whatever is written.
/// `lint` are the entries of its two inputs, `last_lvt` is the number of the table's last entry.
pub(super) fn sequence(lint: [u32; 2], last_lvt: u32) -> Vec<(u32, u32)> {
    let mut writes = vec![
        (SPURIOUS, ENABLED | u32::from(vectors::SPURIOUS)),
        (TPR, 0),
        (LVT_TIMER, LVT_MASKED | u32::from(vectors::TIMER)),
        (LVT_LINT0, lint[0]),
        (LVT_LINT1, lint[1]),
    ];
    if last_lvt >= 4 {
        writes.push((LVT_PERF, LVT_MASKED));
    }
    if last_lvt >= 5 {
        writes.push((LVT_THERMAL, LVT_MASKED));
    }
    writes.push((ERROR_STATUS, 0));
    writes.push((LVT_ERROR, u32::from(vectors::APIC_ERROR)));
    writes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// An APIC as INIT leaves it: while it is disabled, mask bits cannot be cleared.
    fn after(writes: &[(u32, u32)]) -> BTreeMap<u32, u32> {
        let mut registers = BTreeMap::from([(SPURIOUS, 0xff)]);
        for &(register, value) in writes {
            let disabled = registers[&SPURIOUS] & ENABLED == 0;
            let lvt = (LVT_TIMER..=LVT_ERROR).contains(&register);
            let masked = if lvt && disabled { LVT_MASKED } else { 0 };
            registers.insert(register, value | masked);
        }
        registers
    }

    /// LINT-1
    #[test]
    fn the_nmi_input_of_a_cpu_that_was_reset_is_open() {
        const NMI: u32 = 4 << 8;
        let registers = after(&sequence([LVT_MASKED, NMI], 5));
        assert_eq!(registers[&LVT_LINT1], NMI);
        assert_eq!(registers[&LVT_LINT0], LVT_MASKED);
        assert_eq!(registers[&LVT_ERROR] & LVT_MASKED, 0);
        for entry in [LVT_TIMER, LVT_THERMAL, LVT_PERF] {
            assert_ne!(registers[&entry] & LVT_MASKED, 0, "{entry:#x}");
        }
        assert!(!after(&sequence([0, 0], 3)).contains_key(&LVT_PERF));
    }
}
