//! The APIC timer: one-shot, periodic and TSC-deadline.
//!
//! It keeps the moment of the next expiry in host nanoseconds rather than a counter; counts are
//! computed when they are read. The bus clock is 100 MHz, as in Xen, so that a saved guest finds
//! the frequency that it calibrated.

/// Nanoseconds per tick of the undivided timer.
const BUS_NS: u64 = 10;
/// Shorter periods are stretched: the guest would otherwise do nothing but take interrupts. As in
/// KVM; on an emulated CPU a guest's way through one interrupt takes longer than 50 us.
const MIN_PERIOD_NS: u64 = 200_000;

/// One reading of the clocks, taken by the caller: host monotonic time, and the guest's TSC at the
/// same instant.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Now {
    pub ns: u64,
    pub guest_tsc: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    OneShot,
    Periodic,
    TscDeadline,
    /// The reserved code: it never fires.
    Off,
}

impl Mode {
    pub(super) const fn from_lvt(lvt: u32) -> Self {
        match lvt >> 17 & 3 {
            0 => Self::OneShot,
            1 => Self::Periodic,
            2 => Self::TscDeadline,
            _ => Self::Off,
        }
    }

    const fn counts(self) -> bool {
        matches!(self, Self::OneShot | Self::Periodic)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Timer {
    mode: Mode,
    initial: u32,
    divide: u32,
    deadline_tsc: u64,
    expiry_ns: Option<u64>,
    tsc_khz: u64,
}

impl Timer {
    pub(super) fn new(tsc_khz: u32) -> Self {
        Self {
            mode: Mode::OneShot,
            initial: 0,
            divide: 0,
            deadline_tsc: 0,
            expiry_ns: None,
            tsc_khz: u64::from(tsc_khz.max(1)),
        }
    }

    pub(super) fn reset(&mut self) {
        *self = Self {
            tsc_khz: self.tsc_khz,
            ..Self::new(1)
        };
    }

    pub(super) fn expiry(&self) -> Option<u64> {
        self.expiry_ns
    }

    /// Catches up with the clock; returns whether the timer expired since the last call.
    pub(super) fn settle(&mut self, now: Now) -> bool {
        let Some(expiry) = self.expiry_ns.filter(|expiry| *expiry <= now.ns) else {
            return false;
        };
        self.expiry_ns = None;
        match self.mode {
            Mode::Periodic if self.initial != 0 => {
                let period = self.period_ns();
                let behind = (now.ns - expiry) % period;
                self.expiry_ns = now.ns.checked_add(period - behind);
            }
            Mode::TscDeadline => self.deadline_tsc = 0,
            _ => {}
        }
        true
    }

    /// TSC-deadline mode shares nothing with the counting modes: a change between them disarms.
    pub(super) fn set_mode(&mut self, mode: Mode) {
        if mode.counts() != self.mode.counts() || mode == Mode::Off {
            self.initial = 0;
            self.deadline_tsc = 0;
            self.expiry_ns = None;
        }
        self.mode = mode;
    }

    pub(super) fn initial(&self) -> u32 {
        self.initial
    }

    pub(super) fn set_initial(&mut self, count: u32, now: Now) {
        if !self.mode.counts() {
            return;
        }
        self.initial = count;
        self.expiry_ns = match count {
            0 => None,
            _ => now.ns.checked_add(self.period_ns()),
        };
    }

    /// Call [`Timer::settle`] first.
    pub(super) fn current(&self, now: Now) -> u32 {
        match self.expiry_ns {
            Some(expiry) if self.mode.counts() => {
                let ticks = expiry.saturating_sub(now.ns).div_ceil(self.tick_ns());
                u32::try_from(ticks).unwrap_or(u32::MAX).min(self.initial)
            }
            _ => 0,
        }
    }

    pub(super) fn divide(&self) -> u32 {
        self.divide
    }

    /// Divisor as the save record has it: 1 to 128.
    pub(super) fn divisor(&self) -> u32 {
        1 << self.divide_shift()
    }

    /// The count goes on from where it is, at the new speed.
    pub(super) fn set_divide(&mut self, value: u32, now: Now) {
        let left = u64::from(self.current(now));
        self.divide = value & 0xb;
        if self.mode.counts() && self.expiry_ns.is_some() {
            self.expiry_ns = now.ns.checked_add(left * self.tick_ns());
        }
    }

    pub(super) fn deadline(&self) -> u64 {
        match self.mode {
            Mode::TscDeadline => self.deadline_tsc,
            _ => 0,
        }
    }

    /// A deadline that has passed expires at once; zero disarms.
    pub(super) fn set_deadline(&mut self, tsc: u64, now: Now) {
        if self.mode != Mode::TscDeadline {
            return;
        }
        self.deadline_tsc = tsc;
        self.expiry_ns = match tsc {
            0 => None,
            _ => {
                let ticks = u128::from(tsc.saturating_sub(now.guest_tsc));
                let ns = (ticks * 1_000_000).div_ceil(u128::from(self.tsc_khz));
                u64::try_from(ns).ok().and_then(|ns| now.ns.checked_add(ns))
            }
        };
    }

    /// After a restore: the count starts over, a deadline stands.
    pub(super) fn restore(&mut self, mode: Mode, divide: u32, initial: u32, tsc: u64, now: Now) {
        self.reset();
        self.mode = mode;
        self.divide = divide & 0xb;
        self.set_initial(initial, now);
        self.set_deadline(tsc, now);
    }

    /// SDM: bits 0, 1 and 3 of the divide configuration, with 111b meaning 1.
    fn divide_shift(&self) -> u32 {
        let code = self.divide & 3 | (self.divide & 8) >> 1;
        (code + 1) & 7
    }

    fn tick_ns(&self) -> u64 {
        BUS_NS << self.divide_shift()
    }

    /// At most 2^32 * 1280: no overflow.
    fn period_ns(&self) -> u64 {
        let period = u64::from(self.initial) * self.tick_ns();
        match self.mode {
            Mode::Periodic => period.max(MIN_PERIOD_NS),
            _ => period,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at(ns: u64) -> Now {
        Now {
            ns,
            guest_tsc: ns * 2,
        }
    }

    fn timer(mode: Mode) -> Timer {
        let mut timer = Timer::new(2_000_000);
        timer.set_mode(mode);
        timer.set_divide(0xb, at(0));
        timer
    }

    #[test]
    fn one_shot_counts_down_and_fires_once() {
        let mut t = timer(Mode::OneShot);
        t.set_initial(100_000, at(MS));
        assert_eq!(t.expiry(), Some(2 * MS));
        assert_eq!(t.current(at(MS + MS / 4)), 75_000);
        assert!(!t.settle(at(2 * MS - 1)));
        assert!(t.settle(at(2 * MS)));
        assert_eq!((t.current(at(2 * MS)), t.expiry()), (0, None));
        assert!(!t.settle(at(9 * MS)));
    }

    #[test]
    fn periodic_skips_what_was_missed_and_keeps_its_phase() {
        let mut t = timer(Mode::Periodic);
        t.set_initial(100_000, at(0));
        assert!(t.settle(at(3 * MS + 1)));
        assert_eq!(t.expiry(), Some(4 * MS));
        assert_eq!(t.current(at(4 * MS - 10)), 1);
    }

    #[test]
    fn a_tiny_period_is_stretched() {
        let mut t = timer(Mode::Periodic);
        t.set_initial(1, at(0));
        assert_eq!(t.expiry(), Some(MIN_PERIOD_NS));
        assert!(t.settle(at(MIN_PERIOD_NS)));
        assert_eq!(t.expiry(), Some(2 * MIN_PERIOD_NS));
    }

    #[test]
    fn a_new_divisor_keeps_the_count() {
        let mut t = timer(Mode::OneShot);
        t.set_initial(100_000, at(0));
        t.set_divide(0, at(MS / 2));
        assert_eq!(t.current(at(MS / 2)), 50_000);
        assert_eq!(t.expiry(), Some(MS / 2 + MS));
    }

    #[test]
    fn every_divide_code() {
        let divisors = [0, 1, 2, 3, 8, 9, 10, 11].map(|code| {
            let mut t = timer(Mode::OneShot);
            t.set_divide(code, at(0));
            t.divisor()
        });
        assert_eq!(divisors, [2, 4, 8, 16, 32, 64, 128, 1]);
    }

    #[test]
    fn deadline_in_guest_tsc_units() {
        let mut t = timer(Mode::TscDeadline);
        t.set_deadline(3 * MS, at(MS));
        assert_eq!(t.expiry(), Some(MS + MS / 2));
        assert_eq!(t.deadline(), 3 * MS);
        assert!(t.settle(at(MS + MS / 2)));
        assert_eq!(t.deadline(), 0);
        t.set_deadline(1, at(5 * MS));
        assert!(t.settle(at(5 * MS)));
        t.set_deadline(u64::MAX, at(5 * MS));
        assert!(!t.settle(at(u64::MAX / 4)));
    }

    #[test]
    fn changing_between_counting_and_deadline_disarms() {
        let mut t = timer(Mode::OneShot);
        t.set_initial(1000, at(0));
        t.set_mode(Mode::Periodic);
        assert!(t.expiry().is_some());
        t.set_mode(Mode::TscDeadline);
        assert_eq!((t.expiry(), t.initial()), (None, 0));
        t.set_deadline(10 * MS, at(0));
        t.set_mode(Mode::OneShot);
        assert_eq!((t.expiry(), t.deadline()), (None, 0));
    }
}
