//! Whether guests may compare the TSCs of different CPUs, and so the clocks of different vcpus.

use core::sync::atomic::{AtomicU64, Ordering};

/// The worst difference that is left between CPUs' TSCs after each CPU's start.
#[derive(Debug)]
pub struct TscCheck {
    worst: AtomicU64,
}

impl TscCheck {
    /// No CPU was compared yet.
    pub const fn new() -> Self {
        Self {
            worst: AtomicU64::new(0),
        }
    }

    /// Notes that a CPU's TSC stays so many ticks off the boot CPU's; `u64::MAX` if that is not
    /// known.
    pub fn note(&self, ticks: u64) {
        self.worst.fetch_max(ticks, Ordering::AcqRel);
    }

    /// Whether all TSCs agree.
    pub fn agree(&self) -> bool {
        self.worst.load(Ordering::Acquire) == 0
    }

    /// Whether readings of pvclock agree on all CPUs (XEN_PVCLOCK_TSC_STABLE_BIT). Only if the TSC
    /// is the clock, too: stamps of another one would lead each vcpu's clock elsewhere.
    pub fn is_stable(&self, clock_is_tsc: bool) -> bool {
        clock_is_tsc && self.agree()
    }
}

impl Default for TscCheck {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cpu_that_differs_is_enough() {
        let check = TscCheck::new();
        assert!(check.agree() && check.is_stable(true));
        assert!(!check.is_stable(false), "another clock leads");
        check.note(0);
        assert!(check.is_stable(true));
        check.note(3);
        check.note(0);
        assert!(
            !check.agree() && !check.is_stable(true),
            "CPUs that agree come after it"
        );
        let check = TscCheck::new();
        check.note(u64::MAX);
        assert!(!check.is_stable(true), "one that could not be asked");
    }
}
