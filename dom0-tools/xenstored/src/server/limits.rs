//! Notices about guests at their limits.

use super::connection::domain_of;
use super::{ConnId, Server};
use crate::notices::Notice;

/// The most notices that wait to be taken; further ones are dropped.
const WAITING: usize = 64;
/// A limit is reported again once a guest has been below this part of it.
const QUIET: (usize, usize) = (3, 4);

/// A guest's use of one resource, and its limits.
struct Row {
    name: &'static str,
    used: usize,
    hard: usize,
    /// 0 is none.
    soft: usize,
}

impl Server {
    /// Notices of guests at their limits since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        core::mem::take(&mut self.notices)
    }

    /// Notes after a request whether its sender is over a soft limit now, or was refused at a hard
    /// one.
    pub(super) fn look_at_limits(&mut self, id: ConnId, refused: bool) {
        let guest = domain_of(id).filter(|domain| *domain != 0 && self.log.quota);
        let Some(domain) = guest else {
            return;
        };
        let rows = self.rows(id, domain);
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let mut texts = Vec::new();
        if refused {
            let list: Vec<String> = rows
                .iter()
                .map(|row| format!("{} {} of {}", row.name, row.used, row.hard))
                .collect();
            texts.push(format!("is refused at its quota: {}", list.join(", ")));
        }
        for (row, told) in rows.iter().zip(&mut connection.told_of) {
            if row.soft > 0 && row.used > row.soft && !*told {
                *told = true;
                texts.push(format!(
                    "is over its soft quota of {}: {} of {}, {} at most",
                    row.name, row.used, row.soft, row.hard
                ));
            } else if row.used < row.soft.saturating_mul(QUIET.0) / QUIET.1 {
                *told = false;
            }
        }
        for text in texts {
            if self.notices.len() < WAITING {
                self.notices.push(Notice { domain, text });
            }
        }
    }

    fn rows(&self, id: ConnId, domain: crate::perms::DomId) -> [Row; 4] {
        let connection = self.connections.get(&id);
        let count = |of: fn(&super::Connection) -> usize| connection.map_or(0, of);
        let row = |name, used, hard: u32, soft: u32| Row {
            name,
            used,
            hard: hard as usize,
            soft: soft as usize,
        };
        let (hard, soft) = (&self.quota, &self.quota.soft);
        let nodes = self.tree.usage(domain).nodes as usize;
        let (watches, transactions) = (count(|c| c.watches.len()), count(|c| c.transactions.len()));
        [
            row("nodes", nodes, hard.nodes, soft.nodes),
            row("watches", watches, hard.watches, soft.watches),
            row(
                "transactions",
                transactions,
                hard.transactions,
                soft.transactions,
            ),
            row("memory", self.memory_of(domain), hard.memory, soft.memory),
        ]
    }
}
