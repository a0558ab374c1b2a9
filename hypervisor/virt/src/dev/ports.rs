//! Which of the machine's ports the hardware domain may use, and what becomes of an access that
//! exits: each of its bytes counts, as one of four bytes reaches ports beyond the one that it
//! names.
//!
//! Of the sleep states only S5 is let through, as the hypervisor's own power-off: out of another
//! the machine would wake in the hardware domain's code, without the hypervisor (ACPI 6.5,
//! 4.8.3.2.1).

use alloc::vec::Vec;

use super::pci::{PORT_ADDRESS, PORT_DATA, PORT_DATA_LAST};

/// SLP_EN and SLP_TYP, in the upper byte of a PM1 control register.
const SLP_EN: u32 = 1 << 5;
const SLP_TYP_SHIFT: u32 = 2;

#[derive(Clone, Debug)]
pub struct PortRules {
    /// First and last of each range that nobody has.
    pub denied: Vec<(u16, u16)>,
    /// PM1 control registers, of two bytes each.
    pub pm1: Vec<u16>,
    /// The sleep types of S5; `None` if the firmware does not tell: then any is taken for it.
    pub s5: Option<(u8, u8)>,
}

/// The fate of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortAccess {
    /// To the machine.
    Pass,
    /// To the machine, but with this value: a sleep state that is not offered.
    Change(u32),
    /// Reads as ones, and swallows what is written.
    Absent,
    /// PCI configuration space.
    Config,
    PowerOff,
}

impl PortRules {
    /// For an access of `size` bytes; `value` is what is written.
    pub fn judge(&self, at: u16, size: u8, value: Option<u32>) -> PortAccess {
        let (first, last) = (u32::from(at), u32::from(at) + u32::from(size.max(1)) - 1);
        let touches = |from: u16, to: u16| first <= u32::from(to) && u32::from(from) <= last;
        if self.denied.iter().any(|&(from, to)| touches(from, to)) {
            return PortAccess::Absent;
        }
        if touches(PORT_ADDRESS, PORT_DATA_LAST) {
            return config(at, size);
        }
        match value {
            Some(value) => self.sleep(at, size, value),
            None => PortAccess::Pass,
        }
    }

    fn sleep(&self, at: u16, size: u8, value: u32) -> PortAccess {
        let mut left = value;
        for upper in self.pm1.iter().filter_map(|control| control.checked_add(1)) {
            let Some(byte) = upper.checked_sub(at).filter(|byte| *byte < size.into()) else {
                continue;
            };
            let shift = 8 * u32::from(byte);
            if value >> shift & SLP_EN == 0 {
                continue;
            }
            let sleep = (value >> shift >> SLP_TYP_SHIFT & 7) as u8;
            if self.s5.is_none_or(|(a, b)| sleep == a || sleep == b) {
                return PortAccess::PowerOff;
            }
            left &= !(SLP_EN << shift);
        }
        if left == value {
            PortAccess::Pass
        } else {
            PortAccess::Change(left)
        }
    }
}

/// The address register, other registers among its bytes (the reset control at 0xcf9), or data.
/// What goes over the end of one into the other is no access that a machine has.
fn config(at: u16, size: u8) -> PortAccess {
    let end = at.saturating_add(size.into());
    if at >= PORT_DATA {
        let inside = end <= PORT_DATA_LAST + 1;
        return if inside {
            PortAccess::Config
        } else {
            PortAccess::Absent
        };
    }
    match (at, size) {
        (PORT_ADDRESS, 4) => PortAccess::Config,
        _ if at >= PORT_ADDRESS && end <= PORT_DATA => PortAccess::Pass,
        _ => PortAccess::Absent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> PortRules {
        PortRules {
            denied: vec![(0x20, 0x21), (0x3f8, 0x3ff)],
            pm1: vec![0x604],
            s5: Some((5, 7)),
        }
    }

    #[test]
    fn each_byte_of_a_wide_access_counts() {
        let judge = |at, size| rules().judge(at, size, Some(0));
        for (at, size) in [(0x3f6, 4), (0x3f7, 2), (0x3f8, 1), (0x3ff, 4), (0x1f, 2)] {
            assert_eq!(judge(at, size), PortAccess::Absent, "{at:#x} {size}");
        }
        for (at, size) in [(0x3f6, 2), (0x3f7, 1), (0x400, 4), (0x22, 1), (0xffff, 4)] {
            assert_eq!(judge(at, size), PortAccess::Pass, "{at:#x} {size}");
        }
    }

    #[test]
    fn configuration_space_is_reached_by_its_own_registers_only() {
        let judge = |at, size| rules().judge(at, size, None);
        for (at, size) in [(0xcf8, 4), (0xcfc, 4), (0xcfe, 2), (0xcff, 1)] {
            assert_eq!(judge(at, size), PortAccess::Config, "{at:#x} {size}");
        }
        // The reset control.
        assert_eq!(judge(0xcf9, 1), PortAccess::Pass);
        for (at, size) in [(0xcf6, 4), (0xcf7, 2), (0xcf9, 4), (0xcfb, 2), (0xcff, 2)] {
            assert_eq!(judge(at, size), PortAccess::Absent, "{at:#x} {size}");
        }
    }

    #[test]
    fn only_s5_is_a_sleep() {
        let judge = |at, size, value| rules().judge(at, size, Some(value));
        let s5 = 0x2000 | 5 << 10;
        assert_eq!(judge(0x604, 2, s5), PortAccess::PowerOff);
        assert_eq!(judge(0x605, 1, s5 >> 8), PortAccess::PowerOff);
        assert_eq!(judge(0x602, 4, s5 << 16), PortAccess::PowerOff);
        let s3 = 0x2001 | 1 << 10;
        assert_eq!(judge(0x604, 2, s3), PortAccess::Change(s3 & !0x2000));
        assert_eq!(judge(0x605, 1, s3 >> 8), PortAccess::Change(4));
        assert_eq!(judge(0x604, 4, s3), PortAccess::Change(s3 & !0x2000));
        // Without SLP_EN, and only the lower byte.
        assert_eq!(judge(0x604, 2, 1 << 10), PortAccess::Pass);
        assert_eq!(judge(0x604, 1, 0xff), PortAccess::Pass);
        let unknown = PortRules {
            s5: None,
            ..rules()
        };
        assert_eq!(unknown.judge(0x604, 2, Some(s3)), PortAccess::PowerOff);
    }
}
