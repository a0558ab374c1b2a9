//! event_channel_op: decode, check, act.

use alloc::sync::Arc;

use guest_pv_abi as abi;
use oxen_types::{DomainId, Errno, Gfn, PAGE_SIZE, Port, Result};

use super::fifo::{self, Fifo};
use super::ports::Binding;
use super::virqs::is_per_vcpu;
use super::{Delivery, EventChannels, LOWEST_PRIORITY, domain_port_limit};
use super::{alloc_unbound, close, send, signal, two_level, with_both};
use crate::domain::Domain;
use crate::hypercall::{Answer, Call, Handle, Long};

/// args: cmd, argument.
pub fn call(call: &mut Call<'_>) -> Answer {
    let domain = call.domain();
    match call.args[0] as u32 {
        abi::EVTCHNOP_SEND => {
            let ask: abi::EvtchnSend = call.read(call.handle(1))?;
            send(domain, Port(ask.port))?;
        }
        abi::EVTCHNOP_ALLOC_UNBOUND => {
            let at: Handle<abi::EvtchnAllocUnbound> = call.handle(1);
            let ask = call.read(at)?;
            let target = call.target(ask.dom)?;
            let remote = own_or(call, ask.remote_dom);
            let port = alloc_unbound(&target, remote)?;
            call.write(
                at,
                &abi::EvtchnAllocUnbound {
                    port: port.0,
                    ..ask
                },
            )?;
        }
        abi::EVTCHNOP_BIND_INTERDOMAIN => {
            let at: Handle<abi::EvtchnBindInterdomain> = call.handle(1);
            let ask = call.read(at)?;
            let remote = call
                .machine()
                .domain(own_or(call, ask.remote_dom))
                .ok_or(Errno::Srch)?;
            let local_port = bind_interdomain(domain, &remote, Port(ask.remote_port))?.0;
            call.write(at, &abi::EvtchnBindInterdomain { local_port, ..ask })?;
        }
        abi::EVTCHNOP_BIND_VIRQ => {
            let at: Handle<abi::EvtchnBindVirq> = call.handle(1);
            let ask = call.read(at)?;
            let port = bind_virq(domain, ask.virq, ask.vcpu)?.0;
            call.write(at, &abi::EvtchnBindVirq { port, ..ask })?;
        }
        abi::EVTCHNOP_BIND_IPI => {
            let at: Handle<abi::EvtchnBindIpi> = call.handle(1);
            let ask = call.read(at)?;
            domain.vcpu(ask.vcpu).ok_or(Errno::NoEnt)?;
            let mut table = domain.events.table.lock();
            let limit = domain_port_limit(&table);
            let heap = &domain.heap;
            let port = table.ports.alloc(heap, limit, Binding::Ipi, ask.vcpu)?.0;
            drop(table);
            call.write(at, &abi::EvtchnBindIpi { port, ..ask })?;
        }
        abi::EVTCHNOP_CLOSE => {
            let ask: abi::EvtchnClose = call.read(call.handle(1))?;
            close(domain, Port(ask.port))?;
        }
        abi::EVTCHNOP_STATUS => {
            let at: Handle<abi::EvtchnStatus> = call.handle(1);
            let ask = call.read(at)?;
            let answer = status(&*call.target(ask.dom)?, ask);
            call.write(at, &answer?)?;
        }
        abi::EVTCHNOP_BIND_VCPU => {
            let ask: abi::EvtchnBindVcpu = call.read(call.handle(1))?;
            bind_vcpu(domain, Port(ask.port), ask.vcpu)?;
        }
        abi::EVTCHNOP_UNMASK => {
            let ask: abi::EvtchnUnmask = call.read(call.handle(1))?;
            let mut table = domain.events.table.lock();
            table.ports.get(Port(ask.port))?;
            let vcpu = table.unmask(domain, Port(ask.port));
            drop(table);
            if let Some(vcpu) = vcpu {
                vcpu.raise_upcall();
            }
        }
        abi::EVTCHNOP_RESET => {
            let ask: abi::EvtchnReset = call.read(call.handle(1))?;
            let target = call.target(ask.dom)?;
            return reset(call, &target);
        }
        abi::EVTCHNOP_INIT_CONTROL => {
            let at: Handle<abi::EvtchnInitControl> = call.handle(1);
            let ask = call.read(at)?;
            init_control(domain, &ask)?;
            call.write(
                at,
                &abi::EvtchnInitControl {
                    link_bits: fifo::LINK_BITS as u8,
                    ..ask
                },
            )?;
        }
        abi::EVTCHNOP_EXPAND_ARRAY => {
            let ask: abi::EvtchnExpandArray = call.read(call.handle(1))?;
            expand_array(domain, Gfn::new(ask.array_gfn))?;
        }
        abi::EVTCHNOP_SET_PRIORITY => {
            let ask: abi::EvtchnSetPriority = call.read(call.handle(1))?;
            if ask.priority > u32::from(LOWEST_PRIORITY) {
                return Err(Errno::Inval.into());
            }
            let mut table = domain.events.table.lock();
            if matches!(table.delivery, Delivery::TwoLevel) {
                return Err(Errno::NoSys.into());
            }
            table.ports.get_mut(Port(ask.port))?.priority = ask.priority as u8;
        }
        _ => return Err(Errno::NoSys.into()),
    }
    Ok(0)
}

fn own_or(call: &Call<'_>, id: u16) -> DomainId {
    match DomainId(id) {
        DomainId::SELF => call.domain().id,
        id => id,
    }
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
fn bind_virq(domain: &Domain, virq: u32, vcpu: u32) -> Result<Port> {
    let mut table = domain.events.table.lock();
    table.virqs.check(vcpu, virq)?;
    let limit = domain_port_limit(&table);
    let binding = Binding::Virq(virq);
    let port = table.ports.alloc(&domain.heap, limit, binding, vcpu)?;
    table.virqs.bind(vcpu, virq, port);
    Ok(port)
}

fn bind_vcpu(domain: &Domain, port: Port, vcpu: u32) -> Result<()> {
    domain.vcpu(vcpu).ok_or(Errno::NoEnt)?;
    let mut table = domain.events.table.lock();
    let entry = table.ports.get_mut(port)?;
    match entry.binding {
        Binding::Unbound { .. } | Binding::Interdomain { .. } => {}
        Binding::Virq(virq) if !is_per_vcpu(virq) => {}
        _ => return Err(Errno::Inval),
    }
    entry.vcpu = vcpu;
    Ok(())
}

fn status(domain: &Domain, ask: abi::EvtchnStatus) -> Result<abi::EvtchnStatus> {
    let table = domain.events.table.lock();
    let mut answer = abi::EvtchnStatus {
        status: abi::EVTCHNSTAT_CLOSED,
        vcpu: 0,
        u: [0; 8],
        ..ask
    };
    if ask.port >= domain_port_limit(&table) {
        return Err(Errno::Inval);
    }
    let Ok(entry) = table.ports.get(Port(ask.port)) else {
        return Ok(answer);
    };
    answer.vcpu = entry.vcpu;
    match &entry.binding {
        Binding::Free => {}
        Binding::Unbound { remote } => {
            answer.status = abi::EVTCHNSTAT_UNBOUND;
            answer.u[..2].copy_from_slice(&remote.0.to_le_bytes());
        }
        Binding::Interdomain { domain, port } => {
            answer.status = abi::EVTCHNSTAT_INTERDOMAIN;
            answer.u[..2].copy_from_slice(&domain.id.0.to_le_bytes());
            answer.u[4..].copy_from_slice(&port.0.to_le_bytes());
        }
        Binding::Virq(virq) => {
            answer.status = abi::EVTCHNSTAT_VIRQ;
            answer.u[..4].copy_from_slice(&virq.to_le_bytes());
        }
        Binding::Ipi => answer.status = abi::EVTCHNSTAT_IPI,
    }
    Ok(answer)
}

/// Ports that a reset looks at before the CPU looks at its other work.
const RESET_BATCH: u32 = 512;

/// Closes all ports and goes back to the 2-level ABI (for kexec).
fn reset(call: &Call<'_>, domain: &Arc<Domain>) -> Answer {
    let name = call.args[1] ^ u64::from(domain.id.0) << 48;
    let [first, _] = call.resume(Long::EventReset, name).unwrap_or_default();
    let end = domain.events.table.lock().ports.end();
    let stop = end.min(first.saturating_add(RESET_BATCH));
    for port in first..stop {
        // Fails for free ports only.
        let _ = close(domain, Port(port));
    }
    if stop < end {
        return Err(call.go_on(Long::EventReset, name, [stop, 0]));
    }
    domain.events.table.lock().end_fifo(&domain.heap);
    Ok(0)
}

/// The first call switches the domain to the FIFO ABI.
fn init_control(domain: &Domain, ask: &abi::EvtchnInitControl) -> Result<()> {
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

/// Ports that a dump shows: it is made under the lock.
const MOST_SHOWN: usize = 512;

/// For dumps: one line about each port in use, up to a bound.
impl EventChannels {
    pub fn dump(&self, domain: &Domain, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        let table = self.table.lock();
        let all = (1..table.ports.end()).map(Port);
        let used = all.filter_map(|port| Some((port, table.ports.get(port).ok()?)));
        for (port, entry) in used.take(MOST_SHOWN) {
            let (pending, masked) = (
                table.is_pending(domain, port),
                table.is_masked(domain, port),
            );
            write!(
                out,
                "  port {port} vcpu {} prio {} ",
                entry.vcpu, entry.priority
            )?;
            write!(
                out,
                "[{}{}] ",
                if pending { 'p' } else { '-' },
                if masked { 'm' } else { '-' }
            )?;
            match &entry.binding {
                Binding::Free => writeln!(out, "free")?,
                Binding::Unbound { remote } => writeln!(out, "unbound, for d{remote}")?,
                Binding::Interdomain { domain, port } => {
                    writeln!(out, "d{} port {port}", domain.id)?
                }
                Binding::Virq(virq) => writeln!(out, "virq {virq}")?,
                Binding::Ipi => writeln!(out, "ipi")?,
            }
        }
        match table.ports.used().saturating_sub(MOST_SHOWN) {
            0 => Ok(()),
            more => writeln!(out, "  and {more} more"),
        }
    }
}
