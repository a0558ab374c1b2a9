//! The port table: which ports exist and what each is bound to.
//!
//! Entries stand in leaves of a page. A leaf in which nothing is free is marked as full, so that
//! the lowest free port is found without a look at all of them: see [`PortTable::lowest_free`].

use alloc::sync::Arc;
use core::ops::Range;

use oxen_types::{DomainId, Errno, Port, Result};

use super::{DEFAULT_PRIORITY, fifo};
use crate::domain::Domain;
use crate::fallible::{Account, Paged};

#[derive(Clone)]
pub(super) enum Binding {
    Free,
    Unbound { remote: DomainId },
    Interdomain { domain: Arc<Domain>, port: Port },
    Virq(u32),
    Ipi,
}

/// A FIFO queue of a vcpu.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Queue {
    pub vcpu: u16,
    pub priority: u8,
}

pub(super) struct Entry {
    pub binding: Binding,
    /// The vcpu that hears it.
    pub vcpu: u32,
    pub priority: u8,
    /// FIFO: pending before there was a word for it.
    pub pending: bool,
    /// FIFO: the queue in which it was last linked.
    pub queued: Option<Queue>,
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

    fn is_free(&self) -> bool {
        matches!(self.binding, Binding::Free)
    }
}

const LEAF: u32 = Paged::<Entry>::LEAF as u32;
const _: () = assert!(LEAF == 128);
/// Words of a bit for each leaf.
const WORDS: usize = (fifo::PORTS / LEAF / 64) as usize;

#[cfg(test)]
std::thread_local! {
    /// Leaves that were searched for a free entry.
    static LOOKED_AT: core::cell::Cell<u32> = const { core::cell::Cell::new(0) };
}

#[cfg(test)]
pub(super) fn take_looked_at() -> u32 {
    LOOKED_AT.take()
}

pub(super) struct PortTable {
    entries: Paged<Entry>,
    /// Leaves of which no entry is free, a bit each. A leaf that is full is marked when that is
    /// noticed.
    full: [u64; WORDS],
    /// One more than the highest port that was ever in use.
    end: u32,
    /// No port below is in use, but for those that a caller of [`PortTable::take_used`] is closing.
    unused_below: u32,
    used: usize,
}

impl PortTable {
    /// `max_port`: the highest port number that the domain may use (`max_evtchn_port`).
    pub(super) fn new(max_port: u32) -> Self {
        let len = max_port.saturating_add(1).min(fifo::PORTS);
        Self {
            entries: Paged::new(len as usize),
            full: [0; WORDS],
            end: 0,
            unused_below: 0,
            used: 0,
        }
    }

    /// Leaves of a table for ports up to `max_port`.
    pub(super) fn leaves(max_port: usize) -> usize {
        let len = max_port.saturating_add(1).min(fifo::PORTS as usize);
        len.div_ceil(LEAF as usize)
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// One more than the highest port that was ever in use.
    pub(super) fn end(&self) -> u32 {
        self.end
    }

    /// The next `most` ports that may be in use, for a caller that closes them.
    ///
    /// The caller may stop there: whoever closes all ports goes on behind them, or at a lower port
    /// that was opened meanwhile. (Xen keeps `next_evtchn` in its domain for the same purpose.)
    pub(super) fn take_used(&mut self, most: u32) -> Range<u32> {
        let first = self.unused_below;
        self.unused_below = self.end.min(first.saturating_add(most));
        first..self.unused_below
    }

    pub(super) fn get(&self, port: Port) -> Result<&Entry> {
        self.entries
            .get(port.index())
            .filter(|e| !e.is_free())
            .ok_or(Errno::Inval)
    }

    pub(super) fn get_mut(&mut self, port: Port) -> Result<&mut Entry> {
        self.entries
            .get_mut(port.index())
            .filter(|e| !e.is_free())
            .ok_or(Errno::Inval)
    }

    /// Whether `port` leads to `peer`'s `peer_port`.
    pub(super) fn is_peer(&self, port: Port, peer: &Arc<Domain>, peer_port: Port) -> bool {
        matches!(self.get(port).map(|e| &e.binding),
            Ok(Binding::Interdomain { domain, port }) if Arc::ptr_eq(domain, peer) && *port == peer_port)
    }

    /// Takes the lowest free port. -ENOSPC if there is none below both limits, -ENOMEM without
    /// memory.
    pub(super) fn alloc(
        &mut self,
        account: &Account,
        abi_limit: u32,
        binding: Binding,
        vcpu: u32,
    ) -> Result<Port> {
        let limit = abi_limit.min(self.entries.capacity() as u32);
        let port = self.lowest_free(limit).ok_or(Errno::NoSpc)?;
        let at = port.index();
        self.entries
            .ensure(at, account, || Entry::new(Binding::Free, 0))?;
        let slot = self.entries.get_mut(at).ok_or(Errno::NoSpc)?;
        *slot = Entry {
            queued: slot.queued,
            ..Entry::new(binding, vcpu)
        };
        self.end = self.end.max(port.0 + 1);
        self.unused_below = self.unused_below.min(port.0);
        self.used += 1;
        Ok(port)
    }

    /// Looks at 16 words and at most two leaves that are there: only the leaf from which a port was
    /// taken last may be full without a mark, as all that are below the one in use were found full.
    fn lowest_free(&mut self, limit: u32) -> Option<Port> {
        loop {
            let word = self.full.iter().position(|word| *word != u64::MAX)?;
            let bits = self.full.get_mut(word)?;
            let bit = bits.trailing_ones();
            let leaf = word as u32 * 64 + bit;
            // Port 0 is never used.
            let first = (leaf * LEAF).max(1);
            let entries = self.entries.leaf(leaf as usize);
            #[cfg(test)]
            LOOKED_AT.set(LOOKED_AT.get() + 1);
            let skipped = (first % LEAF) as usize;
            let free = entries.iter().skip(skipped).position(Entry::is_free);
            let port = match free {
                _ if entries.is_empty() => first,
                Some(at) => first + at as u32,
                None => {
                    *bits |= 1 << bit;
                    continue;
                }
            };
            return (port < limit).then_some(Port(port));
        }
    }

    pub(super) fn free(&mut self, port: Port) {
        if let Some(entry) = self.entries.get_mut(port.index())
            && !entry.is_free()
        {
            // Where it is linked outlives its use: the guest may not have taken it off the queue
            // yet.
            *entry = Entry {
                queued: entry.queued,
                ..Entry::new(Binding::Free, 0)
            };
            let leaf = port.0 / LEAF;
            if let Some(word) = self.full.get_mut((leaf / 64) as usize) {
                *word &= !(1 << (leaf % 64));
            }
            self.used = self.used.saturating_sub(1);
        }
    }

    /// Gives the memory back. No port is in use any more.
    pub(super) fn clear(&mut self, account: &Account) {
        self.entries.clear(account);
        (self.full, self.end, self.unused_below) = ([0; WORDS], 0, 0);
    }
}
