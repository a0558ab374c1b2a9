//! One connection and its state.

use std::collections::BTreeMap;

use super::{Indices, Server};
use crate::caller::Caller;
use crate::outbox::Outbox;
use crate::perms::DomId;
use crate::record::Record;
use crate::transaction::Transaction;
use crate::watch::Watch;

/// The identity of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnId {
    /// A process of dom0, connected by the socket.
    Socket(u64),
    /// A domain, connected by its ring.
    Domain(DomId),
}

/// A domain's ring, as far as it must be known after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    pub gfn: u64,
    /// The domain's own port.
    pub port: u32,
    /// The position in the stream of requests, and in that of replies once all queued ones are
    /// sent.
    pub indices: Indices,
    /// The start of a request whose rest has not arrived yet.
    pub partial: Vec<u8>,
    /// The domain's shutdown was reported.
    pub shutdown_told: bool,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) caller: Caller,
    pub(super) watches: Vec<Watch>,
    watch_bytes: usize,
    pub(super) transactions: BTreeMap<u32, Transaction>,
    pub(super) next_transaction: u32,
    pub(super) outbox: Outbox,
    pub(super) ring: Option<Ring>,
    /// The soft limits that a notice has reported as exceeded.
    pub(super) told_of: [bool; 4],
}

impl Connection {
    pub(super) fn new(domain: DomId, ring: Option<Ring>) -> Self {
        Self {
            caller: Caller {
                domain,
                target: None,
            },
            watches: Vec::new(),
            watch_bytes: 0,
            transactions: BTreeMap::new(),
            next_transaction: 1,
            outbox: Outbox::default(),
            ring,
            told_of: [false; 4],
        }
    }

    /// The memory that the connection takes: watches, transactions, queued messages, and an
    /// incomplete request.
    pub(super) fn held(&self) -> usize {
        let transactions = self.transactions.values().map(Transaction::bytes);
        let partial = self.ring.as_ref().map_or(0, |ring| ring.partial.len());
        transactions.fold(
            self.watch_bytes
                .saturating_add(self.outbox.len())
                .saturating_add(partial),
            usize::saturating_add,
        )
    }

    pub(super) fn add_watch(&mut self, watch: Watch) {
        self.watch_bytes = self.watch_bytes.saturating_add(watch.bytes());
        self.watches.push(watch);
    }

    /// Removes the watch of the same subject and token.
    pub(super) fn remove_watch(&mut self, like: &Watch) -> Option<Watch> {
        let at = self.watches.iter().position(|watch| watch.is_like(like))?;
        let watch = self.watches.remove(at);
        self.watch_bytes = self.watch_bytes.saturating_sub(watch.bytes());
        Some(watch)
    }

    /// The previous daemon's position, as the ring's page has it after a restart.
    ///
    /// As a rule the records are ahead of the page, because they are written first. They are behind
    /// it if they could not be written: a request that they do not mention was handled and replied
    /// to all the same. A guest that wrote our indices gets what it made of them.
    pub(super) fn catch_up(&mut self, page: Indices) {
        let Some(ring) = self.ring.as_mut() else {
            return;
        };
        let is_behind = |records: u32, page: u32| page.wrapping_sub(records).cast_signed() > 0;
        if is_behind(ring.indices.consumed, page.consumed) {
            ring.indices.consumed = page.consumed;
            ring.partial.clear();
        }
        if is_behind(ring.indices.produced, page.produced) {
            ring.indices.produced = page.produced;
        }
        let waiting = ring.indices.produced.wrapping_sub(page.produced) as usize;
        self.outbox
            .advance(self.outbox.len().saturating_sub(waiting));
    }

    /// Drops the watches and transactions of the other side.
    pub(super) fn reset(&mut self) {
        self.watches.clear();
        self.watch_bytes = 0;
        self.transactions.clear();
    }
}

impl Server {
    pub(super) fn held(&self, id: ConnId) -> usize {
        self.connections.get(&id).map_or(0, Connection::held)
    }

    /// The memory that a domain makes the store keep, in bytes.
    pub fn memory_of(&self, domain: DomId) -> usize {
        let owned = self.tree.usage(domain).bytes;
        owned.saturating_add(self.held(ConnId::Domain(domain)))
    }

    /// Adds a connection of a process of dom0.
    pub fn open_socket(&mut self) -> ConnId {
        let id = ConnId::Socket(self.next_socket);
        self.next_socket = self.next_socket.wrapping_add(1);
        self.connections.insert(id, Connection::new(0, None));
        id
    }

    pub fn close_socket(&mut self, id: ConnId) {
        if matches!(id, ConnId::Socket(_)) {
            self.drop_connection(id);
        }
    }

    /// Removes a connection with its watches. False if there is none.
    pub(super) fn drop_connection(&mut self, id: ConnId) -> bool {
        let gone = self.connections.remove(&id);
        if let Some(gone) = &gone {
            self.listeners.remove_all(&gone.watches, id);
        }
        gone.is_some()
    }

    /// The domains whose rings are open.
    pub fn domains(&self) -> Vec<DomId> {
        self.connections
            .keys()
            .filter_map(|id| match id {
                ConnId::Domain(domain) => Some(*domain),
                ConnId::Socket(_) => None,
            })
            .collect()
    }

    pub fn ring(&self, domain: DomId) -> Option<&Ring> {
        self.connections.get(&ConnId::Domain(domain))?.ring.as_ref()
    }

    /// The daemon took requests out of a ring up to `consumed`, of which `partial` is still to be
    /// handled when its rest comes.
    pub fn took(&mut self, domain: DomId, consumed: u32, partial: Vec<u8>) {
        let connection = self.connections.get_mut(&ConnId::Domain(domain));
        if let Some(ring) = connection.and_then(|c| c.ring.as_mut()) {
            ring.indices.consumed = consumed;
            ring.partial.clone_from(&partial);
            self.records.push(Record::Input {
                domain,
                consumed,
                partial,
            });
        }
    }

    /// The daemon took more of a request out of a ring, up to `consumed`, of which the rest is
    /// still to come. Only what is new is recorded: a guest may feed a request byte by byte.
    pub fn took_more(&mut self, domain: DomId, consumed: u32, more: Vec<u8>) {
        let connection = self.connections.get_mut(&ConnId::Domain(domain));
        if let Some(ring) = connection.and_then(|c| c.ring.as_mut()) {
            ring.indices.consumed = consumed;
            ring.partial.extend_from_slice(&more);
            self.records.push(Record::MoreInput {
                domain,
                consumed,
                more,
            });
        }
    }
}

/// The record of a domain's connection; what sockets do is not recorded.
pub(super) const fn domain_of(id: ConnId) -> Option<DomId> {
    match id {
        ConnId::Domain(domain) => Some(domain),
        ConnId::Socket(_) => None,
    }
}
