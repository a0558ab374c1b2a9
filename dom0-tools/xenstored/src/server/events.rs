//! Replies and events on their way out, and changes on their way to the records.

use super::requests::COPIED;
use super::{ConnId, Server};
use crate::outcome::{Done, Entry, Event};
use crate::path::Path;
use crate::perms::{DomId, Perms};
use crate::record::{Record, encode_perms};
use crate::tree::Tree;
use crate::watch::{Special, Watch};
use crate::wire::{self, Header, Kind, PAYLOAD_MAX};

/// Bytes of events that may wait for a process of dom0.
const SOCKET_QUEUE: usize = 8 << 20;

impl Server {
    pub(super) fn reply(&mut self, id: ConnId, header: Header, kind: Kind, payload: &[u8]) {
        let message = wire::message(kind, header.req_id, header.tx_id, payload);
        self.record_output(id, &message);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.outbox.push_reply(message);
        }
    }

    /// Queues a watch's event. An event that is too long, or one too many for a connection that
    /// does not read, is lost.
    pub(super) fn tell(&mut self, id: ConnId, path: &str, token: &[u8]) {
        let payload = [path.as_bytes(), b"\0", token, b"\0"].concat();
        if payload.len() > PAYLOAD_MAX {
            return;
        }
        let limit = self.queue_limit(id);
        let message = wire::message(Kind::WatchEvent, 0, 0, &payload);
        // Special events are counted by who gets them; changes of a node are not.
        let merge = !path.starts_with('@');
        let queued = self
            .connections
            .get_mut(&id)
            .is_some_and(|c| c.outbox.push_event(message.clone(), merge, limit));
        if queued {
            self.record_output(id, &message);
        }
    }

    /// The number of queued bytes from which on no event is queued.
    const fn queue_limit(&self, id: ConnId) -> usize {
        match id {
            ConnId::Domain(domain) if domain != 0 => self.quota.queue as usize,
            _ => SOCKET_QUEUE,
        }
    }

    fn record_output(&mut self, id: ConnId, message: &[u8]) {
        self.spend(1 + message.len() / COPIED);
        let ConnId::Domain(domain) = id else { return };
        self.told.insert(domain);
        let connection = self.connections.get_mut(&id);
        if let Some(ring) = connection.and_then(|c| c.ring.as_mut()) {
            // A message is some KiB at most.
            ring.indices.produced = ring.indices.produced.wrapping_add(message.len() as u32);
            let produced = ring.indices.produced;
            self.records.push(Record::Output {
                domain,
                produced,
                bytes: message.to_vec(),
            });
        }
    }

    /// Records changes and queues the watches' events.
    pub(super) fn publish(&mut self, done: &Done) {
        self.spend(done.nodes);
        for entry in &done.journal {
            let record = match entry {
                Entry::Gone(path) => Some(Record::Gone {
                    path: path.to_string(),
                }),
                Entry::Put(path) => put(&self.tree, path),
            };
            self.spend(
                record
                    .as_ref()
                    .map_or(0, |record| 1 + record.len() / COPIED),
            );
            self.records.extend(record);
        }
        for event in &done.events {
            for (id, path, token) in self.hearers(event) {
                self.tell(id, &path, &token);
            }
        }
    }

    /// The recipients of a change, and the path of each event.
    fn hearers(&mut self, event: &Event) -> Vec<(ConnId, String, Vec<u8>)> {
        let listening = match event {
            Event::Changed(path, _) => self.listeners.of_change(path),
            Event::Removed(path, _) => self.listeners.of_removal(path),
        };
        let mut hearers = Vec::new();
        let mut asked = listening.len();
        for id in listening {
            let Some(connection) = self.connections.get(&id) else {
                continue;
            };
            // A connection that does not read its events gets no further ones.
            if connection.outbox.len() >= self.queue_limit(id) {
                continue;
            }
            asked = asked.saturating_add(connection.watches.len());
            let may_read = |perms: &Perms| connection.caller.may_read(perms);
            let may_hear = |path: &Path| self.may_hear(path, &may_read);
            let told = |watch: &Watch| match event {
                Event::Changed(path, old) => {
                    let told = watch.on_change(path)?;
                    let allowed =
                        old.as_ref().is_some_and(|perms| may_read(perms)) || may_hear(path);
                    allowed.then(|| told.to_owned())
                }
                Event::Removed(path, gone) => removal(watch, path, gone, &|perms| {
                    may_read(perms) || may_hear(path)
                }),
            };
            hearers.extend(
                connection
                    .watches
                    .iter()
                    .filter_map(|watch| Some((id, told(watch)?, watch.token.clone()))),
            );
        }
        self.spend(asked);
        hearers
    }

    /// The owner of a watch hears of a node that it may read, or whose parent it may read.
    fn may_hear(&self, path: &Path, may_read: &dyn Fn(&Perms) -> bool) -> bool {
        let readable = |path: &Path| self.tree.get(path).is_some_and(|n| may_read(&n.perms));
        readable(path) || path.parent().is_some_and(|p| readable(&p))
    }

    pub(super) fn tell_special(&mut self, event: Special, domain: DomId) {
        let perms = self
            .special
            .iter()
            .find(|(e, _)| *e == event)
            .map(|(_, p)| p.clone());
        let mut hearers = Vec::new();
        for (id, connection) in &self.connections {
            if perms
                .as_ref()
                .is_some_and(|p| connection.caller.may_read(p))
            {
                let told = |w: &Watch| Some((*id, w.on_special(event, domain)?, w.token.clone()));
                hearers.extend(connection.watches.iter().filter_map(told));
            }
        }
        for (id, path, token) in hearers {
            self.tell(id, &path, &token);
        }
    }
}

/// The path of the event that a watch gets for the removal of `path`, where `gone` was: the path,
/// or the watched node if that was below.
fn removal(
    watch: &Watch,
    path: &Path,
    gone: &crate::tree::Node,
    allowed: &dyn Fn(&Perms) -> bool,
) -> Option<String> {
    if let Some(told) = watch.on_change(path) {
        return allowed(&gone.perms).then(|| told.to_owned());
    }
    let watched = watch.below(path)?;
    let skip = path.steps().count();
    let node = watched
        .steps()
        .skip(skip)
        .try_fold(gone, crate::tree::Node::child)?;
    allowed(&node.perms).then(|| watch.path().to_owned())
}

/// The record of a node as it is.
pub(super) fn put(tree: &Tree, path: &Path) -> Option<Record> {
    let node = tree.get(path)?;
    let (value, perms) = (node.value.to_vec(), encode_perms(&node.perms));
    Some(Record::Put {
        path: path.to_string(),
        value,
        perms,
    })
}
