//! Calendar arithmetic for the CMOS clock.

/// A date and time of day in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Date {
    /// From 1970 on.
    pub year: u32,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 60.
    pub second: u32,
}

impl Date {
    /// Seconds since 1970; `None` if this is no date from then on.
    pub fn to_epoch(self) -> Option<u64> {
        let sane = (1970..10_000).contains(&self.year)
            && (1..=12).contains(&self.month)
            && (1..=31).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second < 61;
        if !sane {
            return None;
        }
        // Count years from March, so that the leap day is a year's last.
        let year = u64::from(if self.month <= 2 {
            self.year - 1
        } else {
            self.year
        });
        let month = u64::from((self.month + 9) % 12);
        let in_year = (153 * month + 2) / 5 + u64::from(self.day) - 1;
        let since_year_0 = 365 * year + year / 4 - year / 100 + year / 400 + in_year;
        /// Days from March 1 of year 0 to January 1, 1970.
        const EPOCH: u64 = 719_468;
        let seconds = u64::from(self.hour * 3600 + self.minute * 60 + self.second);
        Some((since_year_0 - EPOCH) * 86_400 + seconds)
    }
}

#[cfg(any(test, target_os = "none"))]
pub(super) fn from_bcd(value: u8) -> u32 {
    u32::from(value >> 4) * 10 + u32::from(value & 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(year: u32, month: u32, day: u32, hour: u32, minute: u32, second: u32) -> Option<u64> {
        Date {
            year,
            month,
            day,
            hour,
            minute,
            second,
        }
        .to_epoch()
    }

    #[test]
    fn known_moments() {
        assert_eq!(at(1970, 1, 1, 0, 0, 0), Some(0));
        assert_eq!(at(2000, 2, 29, 12, 0, 0), Some(951_825_600));
        assert_eq!(at(2026, 11, 21, 9, 24, 0), Some(1_795_253_040));
        assert_eq!(at(2038, 1, 19, 3, 14, 8), Some(1 << 31));
        assert_eq!(at(2100, 3, 1, 0, 0, 0), Some(4_107_542_400));
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(at(1969, 1, 1, 0, 0, 0), None);
        assert_eq!(at(2026, 0, 1, 0, 0, 0), None);
        assert_eq!(at(2026, 13, 1, 0, 0, 0), None);
        assert_eq!(at(2026, 1, 0, 0, 0, 0), None);
        assert_eq!(at(2026, 1, 1, 24, 0, 0), None);
    }

    #[test]
    fn bcd() {
        assert_eq!(from_bcd(0x59), 59);
    }
}
