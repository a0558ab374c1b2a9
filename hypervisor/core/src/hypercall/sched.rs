//! sched_op: yield, block, poll, shutdown and watchdog (xen/sched.h).

use guest_pv_abi as abi;
use oxen_types::{Errno, Port};

use super::{Answer, Call};
use crate::timer::TimerKind;
use crate::vcpu::{Hold, Poll};

/// Ports that one SCHEDOP_poll may name.
const MOST_POLLED: usize = 128;

/// args: cmd, argument.
pub fn call(call: &mut Call<'_>) -> Answer {
    match call.args[0] as u32 {
        abi::SCHEDOP_YIELD => {
            let machine = call.machine();
            machine
                .sched
                .give_way(machine.platform.this_cpu(), machine.now());
            machine.platform.reschedule();
            Ok(0)
        }
        abi::SCHEDOP_BLOCK => {
            call.vcpu.block();
            Ok(0)
        }
        abi::SCHEDOP_SHUTDOWN => {
            let ask: abi::SchedShutdown = call.read(call.handle(1))?;
            let domain = call.domain();
            domain.shutdown(ask.reason).perform(domain);
            Ok(0)
        }
        abi::SCHEDOP_SHUTDOWN_CODE => Err(Errno::NoSys.into()),
        abi::SCHEDOP_POLL => poll(call),
        abi::SCHEDOP_REMOTE_SHUTDOWN => {
            let ask: abi::SchedRemoteShutdown = call.read(call.handle(1))?;
            call.require_privilege()?;
            let target = call
                .machine()
                .domain(oxen_types::DomainId(ask.domain_id))
                .ok_or(Errno::Srch)?;
            target.shutdown(ask.reason).perform(&target);
            Ok(0)
        }
        abi::SCHEDOP_WATCHDOG => watchdog(call),
        abi::SCHEDOP_PIN_OVERRIDE => Err(Errno::NoSys.into()),
        _ => Err(Errno::NoSys.into()),
    }
}

/// Blocks until one of the ports has an event, or until the timeout. The list is copied once, before
/// anything changes: a page of it that the guest takes away meanwhile cannot leave the vcpu blocked.
fn poll(call: &mut Call<'_>) -> Answer {
    let ask: abi::SchedPoll = call.read(call.handle(1))?;
    let mut list = [0u32; MOST_POLLED];
    let ports = list.get_mut(..ask.nr_ports as usize).ok_or(Errno::Inval)?;
    call.read_bytes(ask.ports, bytemuck::cast_slice_mut(ports))?;
    let ports: &[u32] = ports;
    let (vcpu, events) = (call.vcpu, &call.domain().events);
    if ports.iter().any(|port| !events.is_valid(Port(*port))) {
        return Err(Errno::Inval.into());
    }
    vcpu.set_poll(match *ports {
        [port] => Poll::One(Port(port)),
        _ => Poll::Any,
    });
    events.poll_begins();
    vcpu.hold(Hold::Blocked);
    // From here on an event ends the poll. One that came before must, too.
    let mut ready = vcpu.has_event();
    for port in ports {
        ready |= events.is_pending(call.domain(), Port(*port));
    }
    let expired = ask.timeout != 0 && ask.timeout <= call.machine().now();
    if ready || expired {
        vcpu.set_poll(Poll::No);
        vcpu.release(Hold::Blocked);
    } else if ask.timeout != 0 {
        vcpu.arm_timer_here(TimerKind::Poll, ask.timeout);
    }
    Ok(0)
}

/// Feeds, starts or stops a watchdog of the domain's.
fn watchdog(call: &mut Call<'_>) -> Answer {
    let ask: abi::SchedWatchdog = call.read(call.handle(1))?;
    Ok(call.domain().set_watchdog(ask.id, ask.timeout)?)
}
