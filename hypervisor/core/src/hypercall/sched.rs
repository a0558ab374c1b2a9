//! sched_op: yield, block, poll, shutdown and watchdog (xen/sched.h).

use guest_pv_abi as abi;
use oxen_types::{Errno, Port};

use super::{Answer, Call};
use crate::machine::Machine;
use crate::seams::PowerAction;
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
            call.domain().shutdown(ask.reason);
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
            target.shutdown(ask.reason);
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
    *vcpu.poll.lock() = match *ports {
        [port] => Poll::One(Port(port)),
        _ => Poll::Any,
    };
    events.poll_begins();
    vcpu.hold(Hold::Blocked);
    // From here on an event ends the poll. One that came before must, too.
    let mut ready = vcpu.has_event();
    for port in ports {
        ready |= events.is_pending(call.domain(), Port(*port));
    }
    let expired = ask.timeout != 0 && ask.timeout <= call.machine().now();
    if ready || expired {
        *vcpu.poll.lock() = Poll::No;
        vcpu.release(Hold::Blocked);
    } else if ask.timeout != 0 {
        let machine = call.machine();
        let cpu = machine.platform.this_cpu();
        if machine.timers.arm(vcpu, TimerKind::Poll, ask.timeout, cpu) {
            machine.platform.deadline_changed();
        }
    }
    Ok(0)
}

/// The timers behind the ids 1 and 2.
const WATCHDOGS: [TimerKind; 2] = [TimerKind::FirstWatchdog, TimerKind::SecondWatchdog];

/// A domain has two watchdogs, which shut it down when nobody feeds them. They are the domain's: any
/// of its vcpus may feed or stop either, as a daemon runs now on one, now on another.
fn watchdog(call: &mut Call<'_>) -> Answer {
    let ask: abi::SchedWatchdog = call.read(call.handle(1))?;
    let (machine, domain) = (call.machine(), call.domain());
    let keeper = domain.vcpu(0).ok_or(Errno::Inval)?;
    let mut in_use = domain.watchdogs.lock();
    let index = match ask.id {
        0 if ask.timeout == 0 => return Err(Errno::Inval.into()),
        0 => in_use.iter().position(|used| !used).ok_or(Errno::NoSpc)?,
        id => id as usize - 1,
    };
    let (Some(used), Some(kind)) = (in_use.get_mut(index), WATCHDOGS.get(index)) else {
        return Err(Errno::Inval.into());
    };
    if ask.id != 0 && !*used {
        return Err(Errno::Inval.into());
    }
    *used = ask.timeout != 0;
    if !*used {
        machine.timers.cancel(&keeper, *kind);
        return Ok(0);
    }
    let timeout = u64::from(ask.timeout) * 1_000_000_000;
    let deadline = machine.now().saturating_add(timeout);
    let cpu = machine.platform.this_cpu();
    if machine.timers.arm(&keeper, *kind, deadline, cpu) {
        machine.platform.deadline_changed();
    }
    Ok(if ask.id == 0 { index as u64 + 1 } else { 0 })
}

/// dom0 has shut down: the machine follows.
pub fn dom0_is_gone(machine: &Machine, reason: u32) {
    match reason {
        abi::SHUTDOWN_POWEROFF => machine.platform.power(PowerAction::PowerOff),
        _ => machine.platform.power(PowerAction::Reboot),
    }
}
