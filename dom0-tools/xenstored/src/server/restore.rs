//! The server from its records, and its records from the server.

use std::sync::Arc;

use super::connection::{Connection, domain_of};
use super::events::put;
use super::{ConnId, Indices, Platform, Ring, Server};
use crate::access::{Change, Target, apply};
use crate::caller::{Caller, Limits};
use crate::path::Path;
use crate::perms::{DomId, Perms};
use crate::record::{Record, decode_perms, encode_perms};
use crate::transaction::Transaction;
use crate::watch::{Special, Watch};

/// A server that was restored from records.
#[derive(Debug)]
pub struct Restored {
    pub server: Server,
    /// Records that fit nothing before them. They were left out: the rest is worth more than the
    /// certainty that nothing is missing.
    pub aside: Vec<Record>,
}

impl Server {
    /// Restores the server that wrote these records. Any records give a server.
    pub fn restore(records: impl IntoIterator<Item = Record>) -> Restored {
        let mut server = Self::empty();
        let mut aside = Vec::new();
        for record in records {
            if server.replay(&record).is_none() {
                aside.push(record);
            }
        }
        // No events were sent meanwhile.
        for (id, connection) in &server.connections {
            for watch in &connection.watches {
                server.listeners.add(watch, *id);
            }
        }
        server.make_standard_nodes();
        Restored { server, aside }
    }

    /// The directories that every tool expects, where they are missing.
    pub(super) fn make_standard_nodes(&mut self) {
        let limits = Limits {
            quota: &self.quota,
            held: 0,
        };
        let mut all = Vec::new();
        for path in ["/local/domain", "/tool/xenstored", "/vm", "/libxl"] {
            let target = Target::Store(&mut self.tree);
            let made = Path::absolute(path.to_owned())
                .and_then(|path| apply(target, &Change::Mkdir(path), Caller::DOM0, &limits));
            all.extend(made);
        }
        for done in all {
            // No connection exists yet.
            self.publish(&done);
        }
    }

    /// Withdraws the rights that the first format's root gave to all domains: every node without
    /// permissions of its own was readable by everyone.
    pub fn hide_what_everyone_could_read(&mut self) {
        let everyone = Perms::readable(0);
        let readable = |perms: &Perms| *perms == everyone;
        let found = self.tree.root().find(&Path::root(), &readable).into_iter();
        let found: Vec<Path> = found.map(|(path, _)| path).collect();
        for path in found {
            self.tree.set_perms(&path, Perms::private(0));
            self.records.extend(put(&self.tree, &path));
        }
    }

    fn replay(&mut self, record: &Record) -> Option<()> {
        match record {
            Record::Put { path, value, perms } => {
                self.replay_put(path, value, decode_perms(perms)?)
            }
            Record::Gone { path } => self
                .tree
                .remove(&Path::absolute(path.clone()).ok()?)
                .map(drop),
            Record::SpecialPerms { name, perms } => {
                let event = Special::from_name(name.as_bytes())?;
                self.special.iter_mut().find(|(e, _)| *e == event)?.1 = decode_perms(perms)?;
                Some(())
            }
            Record::Introduce {
                domain,
                gfn,
                port,
                consumed,
                produced,
            } => {
                let indices = Indices {
                    consumed: *consumed,
                    produced: *produced,
                };
                let ring = Ring {
                    gfn: *gfn,
                    port: *port,
                    indices,
                    partial: Vec::new(),
                    shutdown_told: false,
                };
                self.connections.insert(
                    ConnId::Domain(*domain),
                    Connection::new(*domain, Some(ring)),
                );
                Some(())
            }
            Record::Release { domain } => {
                self.connections.remove(&ConnId::Domain(*domain)).map(drop)
            }
            Record::Quota { name, value } => self.quota.set(name, *value).then_some(()),
            Record::Target { domain, .. }
            | Record::ShutdownTold { domain, .. }
            | Record::Watch { domain, .. }
            | Record::Unwatch { domain, .. }
            | Record::TransactionStart { domain, .. }
            | Record::TransactionEnd { domain, .. }
            | Record::Reset { domain }
            | Record::Input { domain, .. }
            | Record::MoreInput { domain, .. }
            | Record::Output { domain, .. } => self.replay_connection(*domain, record),
        }
    }

    fn replay_put(&mut self, path: &str, value: &[u8], perms: Perms) -> Option<()> {
        let path = Path::absolute(path.to_owned()).ok()?;
        let (value, perms): (Arc<[u8]>, _) = (value.into(), Arc::new(perms));
        (self.tree.make(&path, &perms, Arc::clone(&value)) || self.tree.set(&path, value, perms))
            .then_some(())
    }

    fn replay_connection(&mut self, domain: DomId, record: &Record) -> Option<()> {
        let connection = self.connections.get_mut(&ConnId::Domain(domain))?;
        match record {
            Record::Target { target, .. } => connection.caller.target = *target,
            Record::ShutdownTold { told, .. } => connection.ring.as_mut()?.shutdown_told = *told,
            Record::Watch {
                path, token, depth, ..
            } => {
                connection.add_watch(Watch::parse(path, token, *depth, domain).ok()?);
            }
            Record::Unwatch { path, token, .. } => {
                let like = Watch::parse(path, token, None, domain).ok()?;
                connection.remove_watch(&like)?;
            }
            Record::TransactionStart { id, .. } => {
                connection.transactions.insert(*id, Transaction::lost());
                connection.next_transaction = id.wrapping_add(1);
            }
            Record::TransactionEnd { id, .. } => drop(connection.transactions.remove(id)?),
            Record::Reset { .. } => connection.reset(),
            Record::Input {
                consumed, partial, ..
            } => {
                let ring = connection.ring.as_mut()?;
                ring.indices.consumed = *consumed;
                ring.partial.clone_from(partial);
            }
            Record::MoreInput { consumed, more, .. } => {
                let ring = connection.ring.as_mut()?;
                ring.indices.consumed = *consumed;
                ring.partial.extend_from_slice(more);
            }
            Record::Output {
                produced, bytes, ..
            } => {
                connection.ring.as_mut()?.indices.produced = *produced;
                connection.outbox.push_reply(bytes.clone());
            }
            _ => return None,
        }
        Some(())
    }

    /// Opens the rings again that were open, after [`Server::restore`]. What had gone out before
    /// the daemon died is taken off the queues; a ring that cannot be opened is dropped as its
    /// domain's death.
    pub fn reconnect(&mut self, platform: &mut dyn Platform) {
        for domain in self.domains() {
            let Some(&Ring { gfn, port, .. }) = self.ring(domain) else {
                continue;
            };
            let Ok(now) = platform.connect(domain, gfn, port, false) else {
                self.forget_domain(domain, platform);
                continue;
            };
            if let Some(connection) = self.connections.get_mut(&ConnId::Domain(domain)) {
                connection.catch_up(now);
            }
        }
    }

    /// Records that describe the whole store, for the start of a new journal.
    pub fn snapshot(&self) -> Vec<Record> {
        let mut records: Vec<Record> = Vec::new();
        for (name, value) in self.quota.changed() {
            records.push(Record::Quota { name, value });
        }
        for (path, _) in self.tree.root().walk(&Path::root()) {
            records.extend(put(&self.tree, &path));
        }
        for (event, perms) in &self.special {
            records.push(Record::SpecialPerms {
                name: event.name().to_owned(),
                perms: encode_perms(perms),
            });
        }
        for (id, connection) in &self.connections {
            if let (Some(domain), Some(ring)) = (domain_of(*id), &connection.ring) {
                records.extend(snapshot_connection(domain, connection, ring));
            }
        }
        records
    }
}

fn snapshot_connection(domain: DomId, connection: &Connection, ring: &Ring) -> Vec<Record> {
    let Ring {
        gfn,
        port,
        indices: Indices { consumed, produced },
        ..
    } = *ring;
    let mut records = vec![
        Record::Introduce {
            domain,
            gfn,
            port,
            consumed,
            produced,
        },
        Record::Input {
            domain,
            consumed,
            partial: ring.partial.clone(),
        },
        Record::Output {
            domain,
            produced,
            bytes: connection.outbox.rest(),
        },
        Record::ShutdownTold {
            domain,
            told: ring.shutdown_told,
        },
        Record::Target {
            domain,
            target: connection.caller.target,
        },
    ];
    for watch in &connection.watches {
        let (path, token) = (watch.path().as_bytes().to_vec(), watch.token.clone());
        records.push(Record::Watch {
            domain,
            path,
            token,
            depth: watch.depth,
        });
    }
    for id in connection.transactions.keys() {
        records.push(Record::TransactionStart { domain, id: *id });
    }
    records
}
