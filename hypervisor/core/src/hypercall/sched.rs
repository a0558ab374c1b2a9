//! sched_op: yield, block, poll, shutdown and watchdog (xen/sched.h).

use guest_pv_abi as abi;
use oxen_types::{Errno, Port};

use super::{Answer, Call, Handle};
use crate::machine::Machine;
use crate::ports::PowerAction;
use crate::timer::TimerKind;
use crate::vcpu::{Hold, Poll};

/// Ports that one SCHEDOP_poll may name.
const MOST_POLLED: u32 = 128;

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

fn poll(call: &mut Call<'_>) -> Answer {
    let ask: abi::SchedPoll = call.read(call.handle(1))?;
    if ask.nr_ports > MOST_POLLED {
        return Err(Errno::Inval.into());
    }
    let vcpu = call.vcpu;
    let ports: Handle<u32> = Handle::new(ask.ports);
    let mut only = None;
    for i in 0..ask.nr_ports {
        let port = Port(call.read(ports.nth(i.into())?)?);
        if !call.domain().events.is_valid(port) {
            return Err(Errno::Inval.into());
        }
        only = Some(port);
    }
    *vcpu.poll.lock() = match (ask.nr_ports, only) {
        (1, Some(port)) => Poll::One(port),
        _ => Poll::Any,
    };
    call.domain().events.poll_begins();
    vcpu.hold(Hold::Blocked);
    // From here on an event ends the poll. One that came before must, too.
    let mut ready = vcpu.has_event();
    for i in 0..ask.nr_ports {
        let port = Port(call.read(ports.nth(i.into())?)?);
        ready |= call.domain().events.is_pending(call.domain(), port);
    }
    let expired = ask.timeout != 0 && ask.timeout <= call.machine().now();
    if ready || expired {
        *vcpu.poll.lock() = Poll::No;
        vcpu.release(Hold::Blocked);
    } else if ask.timeout != 0 {
        let machine = call.machine();
        if machine.timers.arm(
            vcpu,
            TimerKind::Poll,
            ask.timeout,
            machine.platform.this_cpu(),
        ) {
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
