//! event_channel_op: the operations on a domain's ports (xen/event_channel.h).

use alloc::sync::Arc;

use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::{DomainId, Errno, Gfn, PAGE_SIZE, Port, Result};

use super::fifo::{self, Fifo};
use super::ports::Binding;
use super::virqs::is_per_vcpu;
use super::{Delivery, LOWEST_PRIORITY, domain_port_limit};
use super::{alloc_unbound, close, send, signal, two_level, with_both};
use crate::domain::Domain;
use crate::hypercall::op::operations;
use crate::hypercall::{Answer, Call, Stop, Target};

operations! {
    /// args: cmd, argument.
    pub(crate) fn call(call) with ();
    declared OPERATIONS;
    command call.args[0] as u32;
    argument call.args[1];
    accepted {
        EVTCHNOP_SEND: takes(abi::EvtchnSend) by anyone => send_op, full;
        EVTCHNOP_ALLOC_UNBOUND: updates(abi::EvtchnAllocUnbound) by target(dom) => alloc_unbound_op, full;
        EVTCHNOP_BIND_INTERDOMAIN: updates(abi::EvtchnBindInterdomain) by anyone
            => bind_interdomain_op, full;
        EVTCHNOP_BIND_VIRQ: updates(abi::EvtchnBindVirq) by anyone => bind_virq, full;
        EVTCHNOP_BIND_IPI: updates(abi::EvtchnBindIpi) by anyone => bind_ipi, full;
        EVTCHNOP_CLOSE: takes(abi::EvtchnClose) by anyone => close_op, full;
        EVTCHNOP_STATUS: updates(abi::EvtchnStatus) by target(dom) => status, full;
        EVTCHNOP_BIND_VCPU: takes(abi::EvtchnBindVcpu) by anyone => bind_vcpu, full;
        EVTCHNOP_UNMASK: takes(abi::EvtchnUnmask) by anyone => unmask, full;
        EVTCHNOP_RESET: takes(abi::EvtchnReset) by target(dom) => reset,
            full("another domain must be paused, as in Xen");
        EVTCHNOP_INIT_CONTROL: updates(abi::EvtchnInitControl) by anyone => init_control,
            full("FIFO ABI, 131071 ports");
        EVTCHNOP_EXPAND_ARRAY: takes(abi::EvtchnExpandArray) by anyone => expand_array_op, full;
        EVTCHNOP_SET_PRIORITY: takes(abi::EvtchnSetPriority) by anyone => set_priority,
            full("without the FIFO ABI -ENOSYS");
    }
    refused {
        EVTCHNOP_BIND_PIRQ: NoSys, "PVH domains have no pirqs";
    }
    else Err(Errno::NoSys.into());
}

fn send_op(call: &Call<'_>, ask: &abi::EvtchnSend) -> Result<()> {
    send(call.domain(), Port(ask.port))
}

fn alloc_unbound_op(
    call: &Call<'_>,
    target: &Target,
    ask: &mut abi::EvtchnAllocUnbound,
) -> Result<()> {
    ask.port = alloc_unbound(target, own_or(call, ask.remote_dom))?.0;
    Ok(())
}

fn bind_interdomain_op(call: &Call<'_>, ask: &mut abi::EvtchnBindInterdomain) -> Result<()> {
    let remote = call.machine().domain(own_or(call, ask.remote_dom));
    let remote = remote.ok_or(Errno::Srch)?;
    ask.local_port = bind_interdomain(call.domain(), &remote, Port(ask.remote_port))?.0;
    Ok(())
}

fn own_or(call: &Call<'_>, id: u16) -> DomainId {
    match DomainId(id) {
        DomainId::SELF => call.domain().id,
        id => id,
    }
}

fn close_op(call: &Call<'_>, ask: &abi::EvtchnClose) -> Result<()> {
    close(call.domain(), Port(ask.port))
}

fn unmask(call: &Call<'_>, ask: &abi::EvtchnUnmask) -> Result<()> {
    let domain = call.domain();
    let mut table = domain.events.table.lock();
    table.ports.get(Port(ask.port))?;
    let vcpu = table.unmask(domain, Port(ask.port));
    drop(table);
    if let Some(vcpu) = vcpu {
        vcpu.raise_upcall();
    }
    Ok(())
}

fn set_priority(call: &Call<'_>, ask: &abi::EvtchnSetPriority) -> Result<()> {
    let priority = u8::try_from(ask.priority).ok();
    let priority = priority.filter(|priority| *priority <= LOWEST_PRIORITY);
    let priority = priority.ok_or(Errno::Inval)?;
    let mut table = call.domain().events.table.lock();
    if matches!(table.delivery, Delivery::TwoLevel) {
        return Err(Errno::NoSys);
    }
    table.ports.get_mut(Port(ask.port))?.priority = priority;
    Ok(())
}

pub(super) fn bind_interdomain(
    domain: &Arc<Domain>,
    remote: &Arc<Domain>,
    remote_port: Port,
) -> Result<Port> {
    let port = with_both(domain, remote, |table, other| {
        if remote.is_dying() || domain.is_dying() {
            return Err(Errno::Inval);
        }
        let remote_entry = match &other {
            Some(other) => other.ports.get(remote_port)?,
            None => table.ports.get(remote_port)?,
        };
        if !matches!(remote_entry.binding, Binding::Unbound { remote } if remote == domain.id) {
            return Err(Errno::Inval);
        }
        let limit = domain_port_limit(table);
        let ours = Binding::Interdomain {
            domain: remote.clone(),
            port: remote_port,
        };
        let port = table.ports.alloc(&domain.heap, limit, ours, 0)?;
        let theirs = Binding::Interdomain {
            domain: domain.clone(),
            port,
        };
        match other {
            Some(other) => other.ports.get_mut(remote_port)?.binding = theirs,
            None => table.ports.get_mut(remote_port)?.binding = theirs,
        }
        Ok(port)
    })?;
    // The other end may have sent before anybody listened.
    signal(domain, domain.events.table.lock(), port);
    Ok(port)
}

/// Any domain may bind any virq. Those of the machine as a whole are raised at dom0 alone.
fn bind_virq(call: &Call<'_>, ask: &mut abi::EvtchnBindVirq) -> Result<()> {
    let domain = call.domain();
    let mut table = domain.events.table.lock();
    table.virqs.check(ask.vcpu, ask.virq)?;
    let limit = domain_port_limit(&table);
    let binding = Binding::Virq(ask.virq);
    let port = table.ports.alloc(&domain.heap, limit, binding, ask.vcpu)?;
    table.virqs.bind(ask.vcpu, ask.virq, port);
    ask.port = port.0;
    Ok(())
}

fn bind_ipi(call: &Call<'_>, ask: &mut abi::EvtchnBindIpi) -> Result<()> {
    let domain = call.domain();
    domain.vcpu(ask.vcpu).ok_or(Errno::NoEnt)?;
    let mut table = domain.events.table.lock();
    let limit = domain_port_limit(&table);
    let port = table
        .ports
        .alloc(&domain.heap, limit, Binding::Ipi, ask.vcpu)?;
    ask.port = port.0;
    Ok(())
}

fn bind_vcpu(call: &Call<'_>, ask: &abi::EvtchnBindVcpu) -> Result<()> {
    let domain = call.domain();
    domain.vcpu(ask.vcpu).ok_or(Errno::NoEnt)?;
    let mut table = domain.events.table.lock();
    let entry = table.ports.get_mut(Port(ask.port))?;
    match entry.binding {
        Binding::Unbound { .. } | Binding::Interdomain { .. } => {}
        Binding::Virq(virq) if !is_per_vcpu(virq) => {}
        _ => return Err(Errno::Inval),
    }
    entry.vcpu = ask.vcpu;
    Ok(())
}

fn status(_call: &Call<'_>, target: &Target, ask: &mut abi::EvtchnStatus) -> Result<()> {
    let table = target.events.table.lock();
    if ask.port >= domain_port_limit(&table) {
        return Err(Errno::Inval);
    }
    (ask.status, ask.vcpu, ask.u) = (abi::EVTCHNSTAT_CLOSED, 0, [0; 8]);
    let Ok(entry) = table.ports.get(Port(ask.port)) else {
        return Ok(());
    };
    ask.vcpu = entry.vcpu;
    let mut peer = |id: DomainId, port| {
        ask.u.store(&abi::EvtchnStatusInterdomain {
            dom: id.0,
            _pad: 0,
            port,
        });
    };
    ask.status = match &entry.binding {
        Binding::Free => abi::EVTCHNSTAT_CLOSED,
        Binding::Unbound { remote } => {
            peer(*remote, 0);
            abi::EVTCHNSTAT_UNBOUND
        }
        Binding::Interdomain { domain, port } => {
            peer(domain.id, port.0);
            abi::EVTCHNSTAT_INTERDOMAIN
        }
        Binding::Virq(virq) => {
            ask.u.store(virq);
            abi::EVTCHNSTAT_VIRQ
        }
        Binding::Ipi => abi::EVTCHNSTAT_IPI,
    };
    Ok(())
}

/// Ports that a reset looks at before the CPU looks at its other work.
const RESET_BATCH: u32 = 512;

/// Closes all ports and goes back to the 2-level ABI (for kexec). How far the reset got stands in
/// the domain's port table, so it does not matter who makes the next part, nor whether one was
/// given up.
///
/// Another domain must be paused: one that runs could open ports as fast as they are closed, and
/// its reset would not end.
fn reset(call: &Call<'_>, target: &Target, _ask: &abi::EvtchnReset) -> Answer {
    if target.is_other(call).is_ok() && target.life().pauses == 0 {
        return Err(Errno::Inval.into());
    }
    match target.events.close_some(target, RESET_BATCH) {
        Some(mut table) => {
            table.end_fifo(&target.heap);
            Ok(0)
        }
        None => Err(Stop::Again),
    }
}

/// The first call switches the domain to the FIFO ABI.
fn init_control(call: &Call<'_>, ask: &mut abi::EvtchnInitControl) -> Result<()> {
    ask.link_bits = fifo::LINK_BITS as u8;
    let domain = call.domain();
    domain.vcpu(ask.vcpu).ok_or(Errno::NoEnt)?;
    let offset = ask.offset as usize;
    if offset > PAGE_SIZE - fifo::CONTROL_SIZE || !offset.is_multiple_of(8) {
        return Err(Errno::Inval);
    }
    let page = domain.memory.page(Gfn::new(ask.control_gfn), true)?;
    let mut table = domain.events.table.lock();
    if let Delivery::Fifo(fifo) = &mut table.delivery {
        return fifo.add_control(&domain.heap, ask.vcpu, page, offset);
    }
    let mut fifo = Fifo::new(&domain.heap, domain.config.max_vcpus)?;
    if let Err(errno) = fifo.add_control(&domain.heap, ask.vcpu, page, offset) {
        fifo.clear(&domain.heap);
        return Err(errno);
    }
    // The 2-level ABI has no more ports than one step may look at.
    for port in (1..table.ports.end()).map(Port) {
        if let Ok(entry) = table.ports.get_mut(port) {
            entry.pending = two_level::is_pending(domain, port);
        }
    }
    table.delivery = Delivery::Fifo(fifo);
    Ok(())
}

fn expand_array_op(call: &Call<'_>, ask: &abi::EvtchnExpandArray) -> Result<()> {
    expand_array(call.domain(), Gfn::new(ask.array_gfn))
}

pub(super) fn expand_array(domain: &Domain, gfn: Gfn) -> Result<()> {
    let page = domain.memory.page(gfn, true)?;
    let mut table = domain.events.table.lock();
    let Delivery::Fifo(fifo) = &mut table.delivery else {
        return Err(Errno::NoSys);
    };
    let fresh = fifo.add_page(page)?;
    for port in fresh {
        let waits = table
            .ports
            .get_mut(Port(port))
            .is_ok_and(|e| core::mem::take(&mut e.pending));
        if waits && let Some(vcpu) = table.set_pending(domain, Port(port)) {
            vcpu.raise_upcall();
        }
    }
    Ok(())
}
