//! A bound on messages that a guest can cause: a burst, then one each interval.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A bucket of `burst` tokens, refilled by one each `interval_ns`. Put it into a static for each
/// message, or one for each domain.
pub struct RateLimit {
    burst: u32,
    interval_ns: u64,
    tokens: AtomicU32,
    /// When the last token was added.
    filled_at: AtomicU64,
    dropped: AtomicU32,
}

impl RateLimit {
    /// A full bucket.
    pub const fn new(burst: u32, interval_ns: u64) -> Self {
        Self {
            burst,
            interval_ns,
            tokens: AtomicU32::new(burst),
            filled_at: AtomicU64::new(0),
            dropped: AtomicU32::new(0),
        }
    }

    /// For what a guest causes: ten messages at once, then one a second.
    pub const fn for_guests() -> Self {
        Self::new(10, 1_000_000_000)
    }

    /// Takes a token for a message at `now_ns`. Returns how many messages were dropped since the
    /// last one that went out, or `None` if this one is dropped too.
    pub fn allow(&self, now_ns: u64) -> Option<u32> {
        self.refill(now_ns);
        let took = self
            .tokens
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |tokens| {
                tokens.checked_sub(1)
            });
        if took.is_ok() {
            Some(self.dropped.swap(0, Ordering::Relaxed))
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            None
        }
    }

    fn refill(&self, now_ns: u64) {
        let filled_at = self.filled_at.load(Ordering::Acquire);
        let due = now_ns.saturating_sub(filled_at) / self.interval_ns.max(1);
        if due == 0 {
            return;
        }
        // The CPU that moves the mark adds the tokens.
        if self
            .filled_at
            .compare_exchange(filled_at, now_ns, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
        {
            let due = u32::try_from(due).unwrap_or(u32::MAX);
            let _ = self
                .tokens
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |tokens| {
                    Some(tokens.saturating_add(due).min(self.burst))
                });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_then_one_an_interval() {
        let limit = RateLimit::new(2, 100);
        assert_eq!(limit.allow(0), Some(0));
        assert_eq!(limit.allow(1), Some(0));
        assert_eq!(limit.allow(2), None);
        assert_eq!(limit.allow(3), None);
        assert_eq!(limit.allow(100), Some(2));
        assert_eq!(limit.allow(150), None);
        assert_eq!(limit.allow(10_000), Some(1));
        assert_eq!(limit.allow(10_000), Some(0));
        assert_eq!(limit.allow(10_000), None);
    }
}
