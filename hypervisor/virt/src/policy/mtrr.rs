//! Memory type range registers, which a guest reads back as it wrote them. The guest's PAT and the
//! nested tables decide memory types; MTRRs have no effect and only inform the guest. dom0 sees the
//! machine's.

use guest_pv_abi::{MTRR_VCNT, NUM_FIXED_MSR};

/// Variable ranges of a guest, and of the MTRR record.
const VARIABLE: usize = MTRR_VCNT as usize;
const FIXED_COUNT: usize = NUM_FIXED_MSR as usize;
/// The most that a machine has, for dom0: the registers of more would run into those of fixed
/// ranges.
const MOST: usize = 16;
const MSR_CAP: u32 = 0xfe;
const MSR_VARIABLE: u32 = 0x200;
const MSR_VARIABLE_LAST: u32 = MSR_VARIABLE + 2 * MOST as u32 - 1;
const MSR_DEF_TYPE: u32 = 0x2ff;
const FIXED: [u32; FIXED_COUNT] = [
    0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f,
];
/// Fixed ranges, write combining. The number of variable ranges is below.
const CAP: u64 = 1 << 8 | 1 << 10;
const WRITE_BACK: u64 = 6;
const ENABLE: u64 = 1 << 11;
const FIXED_ENABLE: u64 = 1 << 10;
const MASK_VALID: u64 = 1 << 11;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mtrr {
    pub def_type: u64,
    pub fixed: [u64; FIXED_COUNT],
    /// Base and mask of each range.
    variable: [u64; 2 * MOST],
    /// Ranges that exist.
    ranges: usize,
}

impl Default for Mtrr {
    fn default() -> Self {
        Self::write_back()
    }
}

impl Mtrr {
    /// All of memory write-back: what a domain is built with.
    pub fn write_back() -> Self {
        Self {
            def_type: WRITE_BACK | ENABLE,
            fixed: [0; FIXED_COUNT],
            variable: [0; 2 * MOST],
            ranges: VARIABLE,
        }
    }

    /// The machine's, read with `rdmsr` (of registers that exist there only).
    pub fn of_host(rdmsr: &mut dyn FnMut(u32) -> u64) -> Self {
        let cap = rdmsr(MSR_CAP);
        let mut mtrr = Self {
            def_type: rdmsr(MSR_DEF_TYPE),
            ..Self::default()
        };
        if cap & (1 << 8) != 0 {
            for (slot, msr) in mtrr.fixed.iter_mut().zip(FIXED) {
                *slot = rdmsr(msr);
            }
        }
        mtrr.ranges = ((cap & 0xff) as usize).min(MOST);
        let registers = 2 * mtrr.ranges;
        for (slot, msr) in mtrr.variable.iter_mut().take(registers).zip(MSR_VARIABLE..) {
            *slot = rdmsr(msr);
        }
        mtrr
    }

    /// MTRRCAP.
    pub fn cap(&self) -> u64 {
        CAP | self.ranges as u64
    }

    /// The ranges as a save record holds them.
    pub fn record(&self) -> [u64; 2 * VARIABLE] {
        let mut record = [0; 2 * VARIABLE];
        for (to, from) in record.iter_mut().zip(self.variable) {
            *to = from;
        }
        record
    }

    /// The register of a range that exists.
    fn variable(&self, msr: u32) -> Option<usize> {
        let n = msr.checked_sub(MSR_VARIABLE)? as usize;
        (n < 2 * self.ranges).then_some(n)
    }

    /// `None` if a register would not take its value.
    pub(crate) fn from_record(
        def_type: u64,
        fixed: [u64; FIXED_COUNT],
        variable: [u64; 2 * VARIABLE],
        phys_bits: u32,
    ) -> Option<Self> {
        let mut new = Self::write_back();
        new.write(MSR_DEF_TYPE, def_type, phys_bits)?;
        for (msr, value) in FIXED.into_iter().zip(fixed) {
            new.write(msr, value, phys_bits)?;
        }
        for (msr, value) in (MSR_VARIABLE..).zip(variable) {
            new.write(msr, value, phys_bits)?;
        }
        Some(new)
    }

    /// `None` if it is not one of these registers.
    pub(super) fn read(&self, msr: u32) -> Option<u64> {
        match msr {
            MSR_CAP => Some(self.cap()),
            MSR_DEF_TYPE => Some(self.def_type),
            MSR_VARIABLE..=MSR_VARIABLE_LAST => self.variable.get(self.variable(msr)?).copied(),
            _ => self.fixed.get(fixed(msr)?).copied(),
        }
    }

    /// `None` if it is not one of these registers, or the value is not one that it takes.
    pub(super) fn write(&mut self, msr: u32, value: u64, phys_bits: u32) -> Option<()> {
        let above = u64::MAX << phys_bits.clamp(32, 52);
        let (slot, valid) = match msr {
            MSR_DEF_TYPE => (
                &mut self.def_type,
                is_type(value) && value & !(0xff | FIXED_ENABLE | ENABLE) == 0,
            ),
            MSR_VARIABLE..=MSR_VARIABLE_LAST => {
                let valid = if msr.is_multiple_of(2) {
                    is_type(value) && value & (above | 0xf00) == 0
                } else {
                    value & (above | 0xfff & !MASK_VALID) == 0
                };
                let n = self.variable(msr)?;
                (self.variable.get_mut(n)?, valid)
            }
            _ => {
                let valid = value
                    .to_le_bytes()
                    .into_iter()
                    .all(|t| is_type(u64::from(t)));
                (self.fixed.get_mut(fixed(msr)?)?, valid)
            }
        };
        valid.then(|| *slot = value)
    }
}

fn fixed(msr: u32) -> Option<usize> {
    FIXED.iter().position(|&m| m == msr)
}

fn is_type(value: u64) -> bool {
    matches!(value & 0xff, 0 | 1 | 4 | 5 | 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_with_ten_ranges_shows_all_of_them() {
        let m = Mtrr::of_host(&mut |msr| match msr {
            0xfe => 0xd0a,
            // The tenth: RAM above 4 GiB, write-back.
            0x212 => 0x1_0000_0006,
            0x213 => 0xf_0000_0800,
            _ => 0,
        });
        assert_eq!(m.read(0xfe), Some(0x50a));
        assert_eq!(m.read(0x212), Some(0x1_0000_0006));
        assert_eq!([m.read(0x213), m.read(0x214)], [Some(0xf_0000_0800), None]);
        assert_eq!(Mtrr::write_back().read(0x210), None);
    }

    #[test]
    fn a_host_without_mtrrs_has_none() {
        let m = Mtrr::of_host(&mut |_| 0);
        assert_eq!((m.cap() & 0xff, m.read(0x200)), (0, None));
    }
}
