//! A budget that refills with time, for a guest's output and for the services that it causes.

use core::time::Duration;
use std::time::Instant;

/// The rate of the budget, in bytes a second.
const RATE: i64 = 1 << 20;
/// The size of the budget, in bytes.
const BURST: i64 = 256 << 10;
/// The least cost of serving a guest once, in bytes. A guest that prints one byte at a time, or
/// sends events and prints nothing, costs as much as one that fills its ring. In the long run this
/// allows 512 services a second.
const LEAST: i64 = 2 << 10;

#[derive(Debug)]
pub(crate) struct Budget {
    /// The rest of the budget; negative if the last output was larger than the rest.
    left: i64,
    at: Instant,
}

impl Budget {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            left: BURST,
            at: now,
        }
    }

    /// Whether any budget is left.
    pub(crate) fn is_left(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_micros();
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        let refill = passed.saturating_mul(RATE) / 1_000_000;
        if refill > 0 {
            self.left = self.left.saturating_add(refill).min(BURST);
            self.at = now;
        }
        self.left > 0
    }

    /// Pays for a service that brought that many bytes.
    pub(crate) fn spend(&mut self, bytes: usize) {
        let cost = i64::try_from(bytes).unwrap_or(i64::MAX).max(LEAST);
        self.left = self.left.saturating_sub(cost);
    }
}

/// The pause before a guest whose budget is spent is served again.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_a_flood_and_recovers() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let mut printed = 0i64;
        for ms in 0..2000 {
            while budget.is_left(start + Duration::from_millis(ms)) {
                budget.spend(2048);
                printed += 2048;
            }
        }
        assert!(
            (2 * RATE..2 * RATE + 2 * BURST).contains(&printed),
            "{printed}"
        );
        assert!(budget.is_left(start + Duration::from_secs(60)));
        assert_eq!(budget.left, BURST);
    }
}
