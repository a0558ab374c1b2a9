//! Log lines that guests cause, limited so that they do not fill the log.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::perms::DomId;

/// A line about a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub domain: DomId,
    pub text: String,
}

/// The most lines about one guest in [`PERIOD`].
const LINES: u32 = 5;
const PERIOD: Duration = Duration::from_secs(60);

/// Counts the lines of each guest.
#[derive(Debug, Default)]
pub struct Limiter(BTreeMap<DomId, Period>);

#[derive(Debug)]
struct Period {
    began: Instant,
    lines: u32,
}

impl Limiter {
    /// The log line for a notice, if its guest may have one more. The last line of a period says
    /// so.
    pub fn pass(&mut self, notice: &Notice, now: Instant) -> Option<String> {
        self.0
            .retain(|_, period| now.duration_since(period.began) < PERIOD);
        let period = self.0.entry(notice.domain).or_insert(Period {
            began: now,
            lines: 0,
        });
        period.lines = period.lines.saturating_add(1);
        let Notice { domain, text } = notice;
        match period.lines {
            0..LINES => Some(format!("domain {domain} {text}")),
            LINES => Some(format!(
                "domain {domain} {text}; no more of this domain for a minute"
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_fills_no_log_and_takes_no_line_from_another() {
        let mut limiter = Limiter::default();
        let start = Instant::now();
        let notice = |domain| Notice {
            domain,
            text: "is over".to_owned(),
        };
        let lines = |limiter: &mut Limiter, domain, now| -> Vec<String> {
            let notice = notice(domain);
            let all = (0..1000).filter_map(|_| limiter.pass(&notice, now));
            all.collect()
        };
        let first = lines(&mut limiter, 5, start);
        assert_eq!(first.len(), LINES as usize);
        assert_eq!(first[0], "domain 5 is over");
        assert!(first[4].ends_with("for a minute"));
        assert_eq!(lines(&mut limiter, 6, start).len(), LINES as usize);
        assert!(lines(&mut limiter, 5, start + PERIOD / 2).is_empty());
        let later = start + PERIOD;
        assert_eq!(lines(&mut limiter, 5, later).len(), LINES as usize);
        assert_eq!(limiter.0.len(), 1, "old ones are forgotten");
    }
}
