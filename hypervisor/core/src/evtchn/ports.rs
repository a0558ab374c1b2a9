//! The port table: which ports exist and what each is bound to.

use alloc::sync::Arc;
use alloc::vec::Vec;

use oxen_types::{DomainId, Errno, Port, Result};

use super::DEFAULT_PRIORITY;
use crate::domain::Domain;

#[derive(Clone)]
pub(super) enum Binding {
    Free,
    Unbound { remote: DomainId },
    Interdomain { domain: Arc<Domain>, port: Port },
    Virq(u32),
    Ipi,
}

pub(super) struct Entry {
    pub binding: Binding,
    /// The vcpu that hears it.
    pub vcpu: u32,
    pub priority: u8,
    /// FIFO: pending before there was a word for it.
    pub pending: bool,
    /// FIFO: the queue (vcpu, priority) in which it was last linked.
    pub queued: Option<(u32, u8)>,
}

impl Entry {
    fn new(binding: Binding, vcpu: u32) -> Self {
        Self {
            binding,
            vcpu,
            priority: DEFAULT_PRIORITY,
            pending: false,
            queued: None,
        }
    }
}

pub(super) struct PortTable {
    entries: Vec<Entry>,
    /// No port below it is free.
    free_from: u32,
    /// Highest port number that the domain may use (`max_evtchn_port`).
    max_port: u32,
    used: usize,
}

impl PortTable {
    pub fn new(max_port: u32) -> Self {
        Self {
            entries: Vec::new(),
            free_from: 1,
            max_port,
            used: 0,
        }
    }

    pub fn used(&self) -> usize {
        self.used
    }

    /// One more than the highest port that was ever in use.
    pub fn end(&self) -> u32 {
        self.entries.len() as u32
    }

    pub fn get(&self, port: Port) -> Result<&Entry> {
        self.entries
            .get(port.index())
            .filter(|e| !matches!(e.binding, Binding::Free))
            .ok_or(Errno::Inval)
    }

    pub fn get_mut(&mut self, port: Port) -> Result<&mut Entry> {
        self.entries
            .get_mut(port.index())
            .filter(|e| !matches!(e.binding, Binding::Free))
            .ok_or(Errno::Inval)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Port, &mut Entry)> {
        let used = |(_, e): &(usize, &mut Entry)| !matches!(e.binding, Binding::Free);
        self.entries
            .iter_mut()
            .enumerate()
            .filter(used)
            .map(|(i, e)| (Port(i as u32), e))
    }

    /// Does `port` lead to `peer`'s `peer_port`?
    pub fn is_peer(&self, port: Port, peer: &Arc<Domain>, peer_port: Port) -> bool {
        matches!(self.get(port).map(|e| &e.binding),
            Ok(Binding::Interdomain { domain, port }) if Arc::ptr_eq(domain, peer) && *port == peer_port)
    }

    /// Takes the lowest free port. -ENOSPC if there is none below both limits.
    pub fn alloc(&mut self, abi_limit: u32, binding: Binding, vcpu: u32) -> Result<Port> {
        let end = abi_limit.min(self.max_port.saturating_add(1));
        while self.entries.is_empty() {
            // Port 0 is never used.
            self.entries.push(Entry::new(Binding::Free, 0));
        }
        let start = (self.free_from as usize).min(self.entries.len());
        let found = self.entries[start..]
            .iter()
            .position(|e| matches!(e.binding, Binding::Free));
        let port = found.map_or(self.entries.len(), |i| start + i) as u32;
        if port >= end {
            return Err(Errno::NoSpc);
        }
        let entry = Entry::new(binding, vcpu);
        match self.entries.get_mut(port as usize) {
            Some(slot) => {
                *slot = Entry {
                    queued: slot.queued,
                    ..entry
                }
            }
            None => self.entries.push(entry),
        }
        self.free_from = port + 1;
        self.used += 1;
        Ok(Port(port))
    }

    pub fn free(&mut self, port: Port) {
        if let Some(entry) = self.entries.get_mut(port.index()) {
            // Where it is linked outlives its use: the guest may not have taken it off the queue yet.
            *entry = Entry {
                queued: entry.queued,
                ..Entry::new(Binding::Free, 0)
            };
            self.free_from = self.free_from.min(port.0.max(1));
            self.used = self.used.saturating_sub(1);
        }
    }
}
