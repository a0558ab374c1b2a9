//! Whose requests are handled next, among guests, and for how long before others are looked at.
//!
//! What counts is work ([`Server::work`]), not requests: one request may be a thousand times
//! another. Of those who ask, the one that has used least goes next. All guests together get
//! [`TURN`] steps before dom0 is looked at again, however many they are. A request is not
//! interrupted; so when one took more than the turn had left, guests rest for [`REST`] times as
//! long as that lasted, and dom0 gets that time if it wants it: whatever guests ask, most of the
//! time belongs to dom0.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::perms::DomId;
use crate::server::Server;

/// Steps of one guest before the choice is made anew.
pub const SLICE: u64 = 32;
/// Steps of all guests before dom0 is looked at: a few ordinary requests.
pub const TURN: u64 = 64;

/// How long guests rest, in times of what they took too much.
pub const REST: u32 = 3;

/// The work that each guest has used.
#[derive(Debug, Default)]
pub struct Turns {
    used: BTreeMap<DomId, u64>,
    /// The work that the guest which went last had used. A guest without requests saves nothing up:
    /// it continues from here.
    floor: u64,
}

impl Turns {
    /// Lets guests that ask be served until the turn's steps are used up. `serve` handles requests
    /// of one of them, for about [`SLICE`] steps, and says whether there are more. The steps that
    /// were used.
    pub fn serve(
        &mut self,
        asking: &BTreeSet<DomId>,
        server: &mut Server,
        mut serve: impl FnMut(DomId, &mut Server) -> bool,
    ) -> u64 {
        let start = server.work();
        let mut asking = asking.clone();
        loop {
            let used = server.work().saturating_sub(start);
            let next = self.next(&asking).filter(|_| used < TURN);
            let Some(domain) = next else {
                return used;
            };
            let before = server.work();
            let more = serve(domain, server);
            self.charge(domain, server.work().saturating_sub(before));
            if !more {
                asking.remove(&domain);
            }
        }
    }

    fn of(&self, domain: DomId) -> u64 {
        let used = self.used.get(&domain).copied().unwrap_or_default();
        used.max(self.floor)
    }

    fn next(&self, asking: &BTreeSet<DomId>) -> Option<DomId> {
        asking.iter().copied().min_by_key(|domain| self.of(*domain))
    }

    fn charge(&mut self, domain: DomId, work: u64) {
        self.floor = self.of(domain);
        self.used.insert(domain, self.floor.saturating_add(work));
    }

    /// A domain is no more.
    pub fn forget(&mut self, domain: DomId) {
        self.used.remove(&domain);
    }
}

/// How long guests rest after a turn of `used` steps that lasted so long.
pub fn rest(used: u64, lasted: Duration) -> Duration {
    let over = used.saturating_sub(TURN);
    if over == 0 {
        return Duration::ZERO;
    }
    lasted.mul_f64(over as f64 / used as f64) * REST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(domains: impl IntoIterator<Item = DomId>) -> BTreeSet<DomId> {
        domains.into_iter().collect()
    }

    /// Guests that use so many steps each time they go, for so many turns. What each got, and the
    /// longest turn.
    fn run(costs: &BTreeMap<DomId, usize>, turns: usize) -> (BTreeMap<DomId, u64>, u64) {
        let (mut all, mut server) = (Turns::default(), Server::new());
        let (mut got, mut longest) = (BTreeMap::new(), 0);
        for _ in 0..turns {
            let used = all.serve(
                &asking(costs.keys().copied()),
                &mut server,
                |domain, server| {
                    server.spend(costs[&domain]);
                    *got.entry(domain).or_default() += costs[&domain] as u64;
                    true
                },
            );
            longest = longest.max(used);
        }
        (got, longest)
    }

    #[test]
    fn work_is_shared_not_requests() {
        let (got, longest) = run(&BTreeMap::from([(1, 20), (2, 1000), (3, 20)]), 1000);
        assert!(longest < TURN + 1000);
        let (least, most) = (got.values().min().unwrap(), got.values().max().unwrap());
        assert!(most - least <= 1000, "{got:?}");
    }

    #[test]
    fn a_turn_is_as_long_for_many_as_for_one() {
        for guests in [1, 4, 100] {
            let costs = (1..=guests).map(|domain| (domain, 25)).collect();
            let (_, longest) = run(&costs, 50);
            assert!(longest < TURN + 25, "{guests}: {longest}");
        }
    }

    #[test]
    fn who_asked_for_nothing_has_saved_nothing() {
        let (mut turns, mut server) = (Turns::default(), Server::new());
        for _ in 0..1000 {
            turns.serve(&asking([1]), &mut server, |_, server| {
                server.spend(20);
                true
            });
        }
        let mut order = Vec::new();
        for _ in 0..3 {
            turns.serve(&asking([1, 2]), &mut server, |domain, server| {
                server.spend(20);
                order.push(domain);
                true
            });
        }
        let late = order.iter().filter(|domain| **domain == 2).count();
        assert!(late * 2 <= order.len() + 2, "{order:?}");
    }

    #[test]
    fn a_long_request_is_followed_by_a_rest() {
        let lasted = Duration::from_millis(10);
        assert_eq!(rest(TURN, lasted), Duration::ZERO);
        assert_eq!(rest(TURN * 10, lasted), Duration::from_millis(27));
    }
}
