//! The store's core: connections, their requests, and the events of watches.
//!
//! The core does no input or output itself: messages come by [`Server::receive`], replies and
//! events wait in each connection's [`Outbox`], rings are opened by a [`Platform`], and everything
//! that must outlive the process is in the records which [`Server::take_records`] gives. The daemon
//! writes those down before it sends any reply.

mod connection;
mod control;
mod domains;
mod events;
mod limits;
mod listeners;
mod requests;
mod restore;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use connection::Connection;
pub use connection::{ConnId, Ring};
pub use control::Log;
use listeners::Listeners;
pub use restore::Restored;

use crate::error::StoreError;
use crate::notices::Notice;
use crate::outbox::Outbox;
use crate::perms::{DomId, Perms};
use crate::quota::Quota;
use crate::record::Record;
use crate::tree::Tree;
use crate::watch::Special;

/// The server's two indices in a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Indices {
    /// Bytes of requests taken out.
    pub consumed: u32,
    /// Bytes of replies put into the ring.
    pub produced: u32,
}

/// The services that the core needs of the machine.
pub trait Platform {
    /// Opens a domain's ring (again, if it is open) and says where its indices stand. A `fresh` one
    /// is reset; else the domain is in the midst of using it.
    fn connect(
        &mut self,
        domain: DomId,
        gfn: u64,
        port: u32,
        fresh: bool,
    ) -> Result<Indices, StoreError>;
    fn disconnect(&mut self, domain: DomId);
    /// Writes the log to a file from now on.
    fn log_to(&mut self, _file: &str) -> Result<(), StoreError> {
        Err(StoreError::NoSys)
    }
}

/// The store.
#[derive(Debug)]
pub struct Server {
    tree: Tree,
    connections: BTreeMap<ConnId, Connection>,
    listeners: Listeners,
    /// Domains for whom messages were queued since the last [`Self::take_told`].
    told: BTreeSet<DomId>,
    special: [(Special, Perms); 2],
    quota: Quota,
    records: Vec<Record>,
    next_socket: u64,
    /// The work done so far.
    work: u64,
    log: Log,
    notices: Vec<Notice>,
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

impl Server {
    /// A store with the directories that every tool expects.
    pub fn new() -> Self {
        let mut server = Self::empty();
        server.make_standard_nodes();
        server
    }

    fn empty() -> Self {
        let private = Perms::private(0);
        Self {
            tree: Tree::new(),
            connections: BTreeMap::new(),
            listeners: Listeners::default(),
            told: BTreeSet::new(),
            special: [
                (Special::Introduce, private.clone()),
                (Special::Release, private),
            ],
            quota: Quota::default(),
            records: Vec::new(),
            next_socket: 0,
            work: 0,
            log: Log::default(),
            notices: Vec::new(),
        }
    }

    /// The records of what changed since the last call.
    pub fn take_records(&mut self) -> Vec<Record> {
        core::mem::take(&mut self.records)
    }

    /// The domains whose outboxes have got something since the last call.
    pub fn take_told(&mut self) -> BTreeSet<DomId> {
        core::mem::take(&mut self.told)
    }

    /// The work done so far, counted in small steps that take about the same time each: a level of
    /// a path, a node, a watch that is compared, some bytes that are copied.
    pub const fn work(&self) -> u64 {
        self.work
    }

    pub(crate) fn spend(&mut self, steps: usize) {
        self.work = self.work.saturating_add(steps as u64);
    }

    pub fn outbox(&mut self, id: ConnId) -> Option<&mut Outbox> {
        self.connections.get_mut(&id).map(|c| &mut c.outbox)
    }

    pub fn has_output(&self, id: ConnId) -> bool {
        self.connections
            .get(&id)
            .is_some_and(|c| !c.outbox.is_empty())
    }

    /// Whether this connection takes its replies too slowly to be asked for more requests.
    pub fn is_backed_up(&self, id: ConnId) -> bool {
        /// Bytes that wait for a socket before it is left alone.
        const SOCKET: usize = 1 << 20;
        self.connections.get(&id).is_none_or(|c| match id {
            ConnId::Socket(_) => c.outbox.len() > SOCKET,
            ConnId::Domain(0) => c.outbox.len() > SOCKET,
            ConnId::Domain(_) => c.outbox.replies() >= self.quota.outstanding as usize,
        })
    }

    /// The settings of the log.
    pub const fn log(&mut self) -> &mut Log {
        &mut self.log
    }

    pub fn tree(&self) -> &Tree {
        &self.tree
    }
}
