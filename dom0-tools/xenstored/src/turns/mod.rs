//! The order in which guests' requests are handled, and for how long one guest is served.
//!
//! The measure is work ([`Server::work`]), not requests: one request may be a thousand times
//! another. Of the guests with requests, the one that has used least goes next. All guests together
//! get [`TURN`] steps before dom0 is looked at again, however many they are. A request is not
//! interrupted; so when one took more than the turn had left, guests rest for [`REST`] times as
//! long as that lasted, and dom0 gets that time if it wants it: whatever guests request, most of
//! the time belongs to dom0.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::perms::DomId;
use crate::server::Server;

/// Steps of one guest before the next choice.
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
    /// Serves guests with requests until the turn's steps are used up. `serve` handles requests of
    /// one of them, for about [`SLICE`] steps, and says whether there are more. The steps that were
    /// used.
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
mod tests;
