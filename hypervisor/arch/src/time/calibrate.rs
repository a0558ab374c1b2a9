//! The TSC's rate, measured against a timer whose rate is known.
#![allow(unsafe_code, reason = "the PM timer's port")]

use x86_64::instructions::port::PortRead;

use super::hpet::Hpet;
use crate::acpi::PmTimer;
use crate::cpu::regs::rdtsc;

const WINDOW_MS: u64 = 20;
const ROUNDS: usize = 3;
/// Tries for a reading that nothing delayed.
const SAMPLES: usize = 16;
/// TSC ticks after which a reference that does not move is given up: seconds on any CPU.
const STUCK_TICKS: u64 = 20_000_000_000;
const PM_TIMER_HZ: u64 = 3_579_545;

pub(super) enum Reference {
    Hpet(Hpet),
    PmTimer(PmTimer),
}

impl Reference {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Hpet(_) => "HPET",
            Self::PmTimer(_) => "PM timer",
        }
    }

    fn hz(&self) -> u64 {
        match self {
            Self::Hpet(hpet) => hpet.hz(),
            Self::PmTimer(_) => PM_TIMER_HZ,
        }
    }

    fn counter(&self) -> u64 {
        match self {
            Self::Hpet(hpet) => hpet.counter(),
            Self::PmTimer(timer) => {
                // SAFETY: the port is the one that the FADT names.
                let value = unsafe { u32::read_from_port(timer.port) };
                u64::from(value) & self.mask()
            }
        }
    }

    fn mask(&self) -> u64 {
        match self {
            Self::Hpet(hpet) if hpet.is_64_bit => u64::MAX,
            Self::Hpet(_) => 0xffff_ffff,
            Self::PmTimer(timer) if timer.is_32_bit => 0xffff_ffff,
            Self::PmTimer(_) => 0xff_ffff,
        }
    }

    /// Counter and TSC of one moment: the pair whose reading took the least time.
    fn sample(&self) -> (u64, u64) {
        let mut best = (0, 0);
        let mut least = u64::MAX;
        for _ in 0..SAMPLES {
            let before = rdtsc();
            let counter = self.counter();
            let took = rdtsc().wrapping_sub(before);
            if took < least {
                least = took;
                best = (counter, before.wrapping_add(took / 2));
            }
        }
        best
    }

    /// The TSC's rate over one window.
    fn measure(&self) -> Option<u64> {
        let goal = self.hz() * WINDOW_MS / 1000;
        let (counter, tsc) = self.sample();
        while self.counter().wrapping_sub(counter) & self.mask() < goal {
            if rdtsc().wrapping_sub(tsc) > STUCK_TICKS {
                return None;
            }
            core::hint::spin_loop();
        }
        let (counter_end, tsc_end) = self.sample();
        let counted = counter_end.wrapping_sub(counter) & self.mask();
        let ticks = u128::from(tsc_end.wrapping_sub(tsc));
        let khz = ticks * u128::from(self.hz()) / u128::from(counted.max(1)) / 1000;
        u64::try_from(khz).ok().filter(|khz| *khz > 1000)
    }

    /// Median of some windows, and how far they lie apart in parts per million.
    pub(super) fn tsc_khz(&self) -> Option<(u64, u64)> {
        let mut rates = [0; ROUNDS];
        for rate in &mut rates {
            *rate = self.measure()?;
        }
        rates.sort_unstable();
        let median = rates[ROUNDS / 2];
        Some((median, (rates[ROUNDS - 1] - rates[0]) * 1_000_000 / median))
    }
}
