//! Ticks to nanoseconds, in the form of pvclock (xen/xen.h, vcpu_time_info):
//! ns = ((ticks << shift) * mul_frac) >> 32, with a right shift if `shift` is negative.

/// A factor between two units of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale {
    /// The factor's fraction, in units of 2^-32.
    pub mul_frac: u32,
    /// The factor's power of two.
    pub shift: i8,
}

impl Scale {
    /// The factor 1.
    pub const IDENTITY: Self = Self {
        mul_frac: 1 << 31,
        shift: 1,
    };

    /// `to` units for each `from` units, neither of them 0: ns for ticks at f kHz is
    /// `ratio(1_000_000, f)`.
    pub const fn ratio(to: u64, from: u64) -> Self {
        assert!(to != 0 && from != 0);
        // Normalize the quotient into 0.5 <= fraction < 1, that is mul_frac with its top bit set.
        let (mut shift, mut numerator, mut denominator) = (0i8, to as u128, from as u128);
        while numerator >= denominator {
            denominator <<= 1;
            shift += 1;
        }
        while numerator * 2 < denominator {
            numerator <<= 1;
            shift -= 1;
        }
        let fraction = (numerator << 32) / denominator;
        Self {
            mul_frac: fraction as u32,
            shift,
        }
    }

    /// Nanoseconds for ticks of a clock at `khz`.
    pub const fn from_khz(khz: u64) -> Self {
        Self::ratio(1_000_000, if khz == 0 { 1 } else { khz })
    }

    /// Multiplies by the factor.
    pub const fn apply(self, ticks: u64) -> u64 {
        let shifted = if self.shift >= 0 {
            (ticks as u128) << self.shift
        } else {
            (ticks >> -self.shift) as u128
        };
        ((shifted * self.mul_frac as u128) >> 32) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_rates() {
        assert_eq!(Scale::from_khz(1_000_000), Scale::IDENTITY);
        assert_eq!(Scale::from_khz(1_000_000).apply(12345), 12345);
        // 2 GHz: half a nanosecond a tick.
        assert_eq!(
            Scale::from_khz(2_000_000),
            Scale {
                mul_frac: 1 << 31,
                shift: 0
            }
        );
        assert_eq!(Scale::from_khz(500_000).apply(3), 6);
    }

    #[test]
    fn exact_to_a_billionth_over_a_day() {
        for khz in [
            14_318u64, 999_999, 1_193_182, 2_394_230, 3_600_001, 5_000_000,
        ] {
            let scale = Scale::from_khz(khz);
            assert!(scale.mul_frac >= 1 << 31, "normalized for {khz}");
            let day = 86_400_000_000_000u64;
            let ticks = (u128::from(day) * u128::from(khz) / 1_000_000) as u64;
            let error = scale.apply(ticks).abs_diff(day);
            assert!(error < day / 1_000_000_000, "{khz} kHz: {error} ns off");
        }
    }

    #[test]
    fn there_and_back() {
        let khz = 2_394_230;
        let (to_ns, to_ticks) = (Scale::from_khz(khz), Scale::ratio(khz, 1_000_000));
        let ns = 1_000_000_000;
        assert!(to_ns.apply(to_ticks.apply(ns)).abs_diff(ns) < 10);
    }

    #[test]
    fn never_goes_back() {
        let scale = Scale::from_khz(2_394_230);
        let mut last = 0;
        for ticks in (0..1_000_000).chain((1 << 62)..(1 << 62) + 1000) {
            let now = scale.apply(ticks);
            assert!(now >= last);
            last = now;
        }
    }
}
