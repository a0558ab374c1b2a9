//! sched_op: yield, block, poll, shutdown and watchdog (xen/sched.h).

use guest_pv_abi as abi;
use oxen_types::{DomainId, Errno, Port, Result};

use super::op::operations;
use super::{Call, List, Privileged};
use crate::timer::TimerKind;
use crate::vcpu::{Hold, Poll};

/// Ports that one SCHEDOP_poll may name.
const MOST_POLLED: usize = 128;

operations! {
    /// args: cmd, argument.
    pub fn call(call) with ();
    declared OPERATIONS;
    command call.args[0] as u32;
    argument call.args[1];
    accepted {
        SCHEDOP_YIELD: plain by anyone => give_way, full;
        SCHEDOP_BLOCK: plain by anyone => block, full;
        SCHEDOP_SHUTDOWN: takes(abi::SchedShutdown) by anyone => shutdown, full;
        SCHEDOP_POLL: takes(abi::SchedPoll) by anyone => poll, full;
        SCHEDOP_REMOTE_SHUTDOWN: takes(abi::SchedRemoteShutdown) by privileged => remote_shutdown, full;
        SCHEDOP_WATCHDOG: takes(abi::SchedWatchdog) by anyone => watchdog,
            full("two for each domain, which any of its vcpus may feed");
    }
    refused {
        SCHEDOP_SHUTDOWN_CODE: NoSys;
        SCHEDOP_PIN_OVERRIDE: NoSys;
    }
    else Err(Errno::NoSys.into());
}

fn give_way(call: &Call<'_>) {
    let machine = call.machine();
    machine
        .sched
        .give_way(machine.platform.this_cpu(), machine.now());
    machine.platform.reschedule();
}

fn block(call: &Call<'_>) {
    call.vcpu.block();
}

fn shutdown(call: &Call<'_>, ask: &abi::SchedShutdown) {
    let domain = call.domain();
    domain.shutdown(ask.reason).perform(domain);
}

fn remote_shutdown(
    call: &Call<'_>,
    dom0: Privileged,
    ask: &abi::SchedRemoteShutdown,
) -> Result<()> {
    let target = dom0.over(call, DomainId(ask.domain_id))?;
    target.shutdown(ask.reason).perform(&target);
    Ok(())
}

/// Blocks until one of the ports has an event, or until the timeout. The list is copied once,
/// before anything changes: a page of it that the guest takes away meanwhile cannot leave the vcpu
/// blocked.
fn poll(call: &Call<'_>, ask: &abi::SchedPoll) -> Result<()> {
    let mut copy = [0u32; MOST_POLLED];
    let ports = copy.get_mut(..ask.nr_ports as usize).ok_or(Errno::Inval)?;
    let list: List<'_, u32> = call.list(ask.ports);
    list.get_all(0, ports)?;
    let ports: &[u32] = ports;
    let (vcpu, events) = (call.vcpu, &call.domain().events);
    if ports.iter().any(|port| !events.is_valid(Port(*port))) {
        return Err(Errno::Inval);
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
    Ok(())
}

/// Feeds, starts or stops a watchdog of the domain's.
fn watchdog(call: &Call<'_>, ask: &abi::SchedWatchdog) -> Result<u64> {
    call.domain().set_watchdog(ask.id, ask.timeout)
}
