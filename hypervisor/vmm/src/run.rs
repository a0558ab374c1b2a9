//! The loop of each CPU: take interrupts, fire timers, ask the scheduler, enter the guest.
//!
//! Interrupts are off but in `window` and `idle`, both called here with no lock held but the
//! context of the vcpu that is loaded, which no interrupt handler touches.

use alloc::sync::Arc;

use oxen_core::runstate::State;
use oxen_core::vcpu::{Hold, Vcpu};
use oxen_types::CpuId;
use oxen_virt::PhysCpu;

use crate::Vmm;
use crate::host::Host;
use crate::percpu::PerCpu;
use crate::runner::{Phys, Runner};

/// Idle CPUs look again at least this often, in ns.
const LONGEST_IDLE: u64 = 1_000_000_000;

/// Never returns: this CPU runs guests from now on.
pub fn cpu_loop<H: Host>(vmm: &'static Vmm<H>, phys: PhysCpu) -> ! {
    let cpu = vmm.host.this_cpu();
    *vmm.cpu(cpu).phys.lock() = Some(phys);
    loop {
        turn(vmm, cpu);
    }
}

/// One turn of the loop: what the scheduler gives this CPU runs until its slice ends.
pub(crate) fn turn<H: Host>(vmm: &Vmm<H>, cpu: CpuId) {
    let machine = vmm.machine;
    vmm.host.window();
    machine.fire_timers(cpu);
    vmm.host.work(cpu);
    vmm.cpu(cpu).take_reschedule();
    let decision = machine.pick_vcpu(cpu, machine.now());
    if let Some(other) = decision.resched {
        machine.platform.reschedule_on(other);
    }
    match decision.next {
        None => idle(vmm, cpu, decision.until),
        Some(vcpu) => {
            vcpu.arch.run(&vcpu, decision.until);
            // Whoever waits for it to stand still finds its context free.
            vcpu.set_cpu(None);
        }
    }
}

fn idle<H: Host>(vmm: &Vmm<H>, cpu: CpuId, until: u64) {
    let (machine, own) = (vmm.machine, vmm.cpu(cpu));
    let start = machine.now();
    let next = machine
        .timers
        .next(cpu)
        .unwrap_or(u64::MAX)
        .min(until)
        .min(start + LONGEST_IDLE);
    own.set_deadline(next, &vmm.host);
    // A kick that came since the scheduler was asked is pending as an interrupt, and ends the halt.
    if !own.must_reschedule() {
        vmm.host.idle();
    }
    own.add_idle(machine.now().saturating_sub(start));
}

/// Runs one vcpu until its slice ends, it cannot go on, or the scheduler is to be asked. The caller
/// has locked its context, and lets go of that before the vcpu counts as standing still.
pub(crate) fn run<H: Host, R: Runner>(
    vmm: &Vmm<H>,
    vcpu: &Arc<Vcpu>,
    runner: &mut R,
    slice_end: u64,
) {
    let machine = vmm.machine;
    let cpu = vmm.host.this_cpu();
    let own = vmm.cpu(cpu);
    let phys = &mut *own.phys.lock();
    own.set_current(Some(vcpu.clone()));
    vcpu.enter_state(State::Running, machine.now());
    vcpu.update_time();
    vcpu.start_ticks(cpu);
    runner.load(phys);

    loop {
        vmm.host.window();
        let mut now = machine.now();
        if machine.timers.next(cpu).is_some_and(|next| next <= now) {
            machine.fire_timers(cpu);
            // What fired is due by the time that it is now. By the time from before, a local APIC's
            // timer that became due in between would be out of the queue and not yet expired.
            now = machine.now();
        }
        let ends = slice_end.min(own.reschedules_at());
        if own.must_reschedule() || now >= ends || !vcpu.is_runnable() {
            break;
        }
        if !runner.prepare(now) {
            break;
        }
        set_deadline(vmm, own, runner, cpu, ends);
        if let Some(exit) = enter(own, vcpu, runner, phys) {
            runner.handle(exit);
        }
    }

    vcpu.stop_ticks();
    runner.unload(phys);
    own.set_current(None);
    let state = if vcpu.is_runnable() {
        State::Runnable
    } else if vcpu.is_held(Hold::Blocked) {
        State::Blocked
    } else {
        State::Offline
    };
    vcpu.enter_state(state, machine.now());
}

/// Sees to it that the guest is left in time. Where the entry can end by itself, no timer has to be
/// set and no interrupt taken; and the CPU's own timer, set while it was idle, may come early
/// enough anyway.
fn set_deadline<H: Host, R: Runner>(
    vmm: &Vmm<H>,
    own: &PerCpu,
    runner: &mut R,
    cpu: CpuId,
    slice_end: u64,
) {
    let timers = &vmm.machine.timers;
    let next = timers.next(cpu).unwrap_or(u64::MAX).min(slice_end);
    let needed = || (next != u64::MAX && !own.wakes_by(next)).then_some(next);
    if !(vmm.host.clock_is_tsc() && runner.set_deadline(needed)) {
        own.set_deadline(next, &vmm.host);
    }
}

/// Other vcpus may change the tables as often while one tries to enter, before it looks at all else
/// again.
const TRIES: usize = 8;

/// Enters the guest. `None` if its tables did not hold still.
fn enter<R: Runner>(
    own: &PerCpu,
    vcpu: &Arc<Vcpu>,
    runner: &mut R,
    phys: &mut Phys,
) -> Option<R::Exit> {
    let domain = vcpu.domain.id;
    own.enter_guest(domain);
    runner.catch_up();
    let mut tries = 0;
    while !runner.is_ready() {
        // Whoever holds the tables may wait for this CPU to be out of the guest.
        own.leave_guest();
        if tries == TRIES {
            return None;
        }
        tries += 1;
        runner.make_ready();
        own.enter_guest(domain);
    }
    let exit = runner.enter(phys);
    own.leave_guest();
    if own.take_stop() {
        log::error!(
            "d{domain}v{} would not leave its guest: it is stopped",
            vcpu.id
        );
        let domain = &vcpu.domain;
        domain
            .shutdown(guest_pv_abi::SHUTDOWN_CRASH)
            .perform(domain);
    }
    Some(exit)
}
