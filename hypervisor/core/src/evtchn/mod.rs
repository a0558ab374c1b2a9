//! Event channels: a domain's ports, what they are bound to, and how an event reaches the guest
//! (xen/event_channel.h).
//!
//! Each domain has one lock over its ports and queues. A send takes the sender's lock to read the
//! binding, lets go, and takes the receiver's, where the binding is checked again. Only bind and
//! close of an interdomain port hold two locks: the lower domain number's first.

mod dump;
mod fifo;
pub(crate) mod ops;
mod ports;
mod two_level;
mod virqs;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use oxen_types::{DomainId, Errno, Port, Result};
use spin::{Mutex, MutexGuard};

use crate::domain::Domain;
use crate::fallible::Account;
use crate::vcpu::Vcpu;

use ports::{Binding, PortTable};
use virqs::Virqs;

/// How pending events are told to the guest.
enum Delivery {
    TwoLevel,
    Fifo(fifo::Fifo),
}

pub(crate) struct Table {
    ports: PortTable,
    virqs: Virqs,
    delivery: Delivery,
}

/// A domain's event channels.
pub struct EventChannels {
    table: Mutex<Table>,
    /// Some vcpu has used SCHEDOP_poll: events look for pollers.
    polled: AtomicBool,
}

const LOWEST_PRIORITY: u8 = 15;
const DEFAULT_PRIORITY: u8 = 7;

impl EventChannels {
    /// Pages that the tables take at most for ports up to `max_port`: ports, FIFO's pages and
    /// control blocks, virqs.
    pub fn pages(max_port: usize, vcpus: usize) -> usize {
        PortTable::leaves(max_port) + 1 + vcpus.div_ceil(fifo::CONTROLS_OF_LEAF) + 1
    }

    /// For a domain of so many vcpus, whose ports go up to `max_port`.
    pub fn new(account: &Account, max_port: u32, vcpus: u32) -> Result<Self> {
        Ok(Self {
            table: Mutex::new(Table {
                ports: PortTable::new(max_port),
                virqs: Virqs::new(account, vcpus)?,
                delivery: Delivery::TwoLevel,
            }),
            polled: AtomicBool::new(false),
        })
    }

    /// Whether the port is in use.
    pub fn is_valid(&self, port: Port) -> bool {
        self.table.lock().ports.get(port).is_ok()
    }

    /// Whether the port has an event that the guest has not handled.
    pub fn is_pending(&self, domain: &Domain, port: Port) -> bool {
        self.table.lock().is_pending(domain, port)
    }

    /// Has each event from now on look for vcpus that poll.
    pub fn poll_begins(&self) {
        self.polled.store(true, Ordering::SeqCst);
    }

    /// Number of ports in use, and whether the guest uses the FIFO ABI (for dumps).
    pub fn usage(&self) -> (usize, bool) {
        let table = self.table.lock();
        (
            table.ports.used(),
            matches!(table.delivery, Delivery::Fifo(_)),
        )
    }

    /// Closes everything, `budget` ports at a time, and frees the tables. True when done.
    pub fn teardown(&self, domain: &Arc<Domain>, budget: usize) -> bool {
        let budget = u32::try_from(budget).unwrap_or(u32::MAX);
        let Some(mut table) = self.close_some(domain, budget) else {
            return false;
        };
        if table.ports.used() != 0 {
            return false;
        }
        table.end_fifo(&domain.heap);
        table.ports.clear(&domain.heap);
        table.virqs.clear(&domain.heap);
        true
    }

    /// Looks at the next `budget` ports and closes those in use. Returns the locked table once it
    /// came to the last one. Progress stands in the table: see [`PortTable::take_used`].
    fn close_some(&self, domain: &Arc<Domain>, budget: u32) -> Option<MutexGuard<'_, Table>> {
        let (ports, end) = {
            let mut table = self.table.lock();
            (table.ports.take_used(budget), table.ports.end())
        };
        // Others may have taken the last ones, and still be closing them.
        let is_last = ports.end == end && !ports.is_empty();
        for port in ports {
            // Fails for a port that is free, or that the domain has opened again meanwhile.
            let _ = close(domain, Port(port));
        }
        let table = self.table.lock();
        (is_last || table.ports.used() == 0).then_some(table)
    }
}

impl Table {
    /// Back to the 2-level ABI.
    fn end_fifo(&mut self, account: &Account) {
        if let Delivery::Fifo(fifo) = core::mem::replace(&mut self.delivery, Delivery::TwoLevel) {
            fifo.clear(account);
        }
    }

    fn is_pending(&self, domain: &Domain, port: Port) -> bool {
        match &self.delivery {
            Delivery::TwoLevel => two_level::is_pending(domain, port),
            Delivery::Fifo(fifo) => fifo.is_pending(port),
        }
    }

    fn is_masked(&self, domain: &Domain, port: Port) -> bool {
        match &self.delivery {
            Delivery::TwoLevel => two_level::is_masked(domain, port),
            Delivery::Fifo(fifo) => fifo.is_masked(port),
        }
    }

    fn clear_pending(&mut self, domain: &Domain, port: Port) {
        match &mut self.delivery {
            Delivery::TwoLevel => two_level::clear_pending(domain, port),
            Delivery::Fifo(fifo) => fifo.clear_pending(port),
        }
    }

    /// Marks the port pending; the vcpu whose upcall must be raised, if one must.
    fn set_pending(&mut self, domain: &Domain, port: Port) -> Option<Arc<Vcpu>> {
        let entry = self.ports.get_mut(port).ok()?;
        let vcpu = domain.vcpu(entry.vcpu)?;
        let raise = match &mut self.delivery {
            Delivery::TwoLevel => two_level::set_pending(domain, &vcpu, port),
            Delivery::Fifo(fifo) => fifo.set_pending(port, entry),
        };
        raise.then_some(vcpu)
    }

    fn unmask(&mut self, domain: &Domain, port: Port) -> Option<Arc<Vcpu>> {
        let entry = self.ports.get_mut(port).ok()?;
        let vcpu = domain.vcpu(entry.vcpu)?;
        let raise = match &mut self.delivery {
            Delivery::TwoLevel => two_level::unmask(domain, &vcpu, port),
            Delivery::Fifo(fifo) => fifo.unmask(port) && fifo.set_pending(port, entry),
        };
        raise.then_some(vcpu)
    }
}

/// Makes a port pending, with what follows: upcall and pollers. Called without locks.
fn signal(domain: &Domain, mut table: MutexGuard<'_, Table>, port: Port) {
    let vcpu = table.set_pending(domain, port);
    drop(table);
    if let Some(vcpu) = vcpu {
        vcpu.raise_upcall();
    }
    if domain.events.polled.load(Ordering::SeqCst) {
        domain.with_vcpus(|vcpus| vcpus.iter().for_each(|vcpu| vcpu.end_poll(port)));
    }
}

/// An event on one of the domain's ports, by the domain's own will.
pub fn send(domain: &Arc<Domain>, port: Port) -> Result<()> {
    let table = domain.events.table.lock();
    match &table.ports.get(port)?.binding {
        Binding::Interdomain {
            domain: remote,
            port: remote_port,
        } => {
            let (remote, remote_port) = (remote.clone(), *remote_port);
            drop(table);
            let table = remote.events.table.lock();
            // Closed or bound anew meanwhile: then the event came just after that.
            if table.ports.is_peer(remote_port, domain, port) {
                signal(&remote, table, remote_port);
            }
            Ok(())
        }
        Binding::Ipi => {
            signal(domain, table, port);
            Ok(())
        }
        Binding::Unbound { .. } => Ok(()),
        _ => Err(Errno::Inval),
    }
}

/// Raises a virq at a vcpu, if the guest has bound it.
pub fn raise_virq(domain: &Domain, vcpu: u32, virq: u32) {
    let table = domain.events.table.lock();
    if let Some(port) = table.virqs.get(vcpu, virq) {
        signal(domain, table, port);
    }
}

/// A port of `domain` that `remote` may bind to.
pub fn alloc_unbound(domain: &Domain, remote: DomainId) -> Result<Port> {
    let mut table = domain.events.table.lock();
    if domain.is_dying() {
        return Err(Errno::Inval);
    }
    let limit = domain_port_limit(&table);
    let binding = Binding::Unbound { remote };
    table.ports.alloc(&domain.heap, limit, binding, 0)
}

fn domain_port_limit(table: &Table) -> u32 {
    match table.delivery {
        Delivery::TwoLevel => two_level::PORTS,
        Delivery::Fifo(_) => fifo::PORTS,
    }
}

/// Frees a port; the other end of an interdomain one waits for this domain to bind again.
///
/// A port in use is always closed, whatever its peer does meanwhile: kernels take a failure for a
/// bug of their own and stop. While both locks are taken the peer may close its end and bind it
/// again, so both states are handled there. Another peer than before means that the domain itself
/// has closed the port in between, and uses the number anew: then it was closed once, -EINVAL.
pub fn close(domain: &Arc<Domain>, port: Port) -> Result<()> {
    let Some(remote) = close_alone(domain, port)? else {
        return Ok(());
    };
    #[cfg(test)]
    tests::close::between_the_locks();
    with_both(domain, &remote, |table, other| {
        let peer = match &table.ports.get(port)?.binding {
            Binding::Interdomain { domain, port } if Arc::ptr_eq(domain, &remote) => Some(*port),
            Binding::Interdomain { .. } => return Err(Errno::Inval),
            // The peer has closed its end.
            _ => None,
        };
        if let Some(remote_port) = peer {
            let ports = match other {
                Some(other) => &mut other.ports,
                None => &mut table.ports,
            };
            if ports.is_peer(remote_port, domain, port) {
                ports.get_mut(remote_port)?.binding = Binding::Unbound { remote: domain.id };
            }
        }
        free(domain, table, port);
        Ok(())
    })
}

/// Frees a port for which this domain's lock is enough; the peer of one for which it is not.
fn close_alone(domain: &Domain, port: Port) -> Result<Option<Arc<Domain>>> {
    let mut table = domain.events.table.lock();
    if let Binding::Interdomain { domain: remote, .. } = &table.ports.get(port)?.binding {
        return Ok(Some(remote.clone()));
    }
    free(domain, &mut table, port);
    Ok(None)
}

fn free(domain: &Domain, table: &mut Table, port: Port) {
    if let Ok(entry) = table.ports.get(port)
        && let Binding::Virq(virq) = entry.binding
    {
        table.virqs.unbind(entry.vcpu, virq);
    }
    table.clear_pending(domain, port);
    table.ports.free(port);
}

/// Runs `act` under both domains' locks; the second is None if they are the same domain.
fn with_both<R>(
    ours: &Arc<Domain>,
    theirs: &Arc<Domain>,
    act: impl FnOnce(&mut Table, Option<&mut Table>) -> R,
) -> R {
    if Arc::ptr_eq(ours, theirs) {
        return act(&mut ours.events.table.lock(), None);
    }
    if ours.id < theirs.id {
        let mut first = ours.events.table.lock();
        let mut second = theirs.events.table.lock();
        act(&mut first, Some(&mut second))
    } else {
        let mut first = theirs.events.table.lock();
        let mut second = ours.events.table.lock();
        act(&mut second, Some(&mut first))
    }
}

/// Has the guest look at every 2-level event of a vcpu: its vcpu_info has just moved.
pub fn mark_all_pending(vcpu: &Vcpu) {
    two_level::mark_all(vcpu);
}

#[cfg(test)]
mod tests;
