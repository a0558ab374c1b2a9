//! The loop of each CPU: take interrupts, fire timers, ask the scheduler, enter the guest.
//!
//! Interrupts are off but in `irq::window` and `irq::idle`, both called here with no lock held but
//! the context of the vcpu that is loaded, which no interrupt handler touches.

use alloc::sync::Arc;

use oxen_arch::{cpu::cpu_id, irq, time};
use oxen_core::machine::Machine;
use oxen_core::runstate::State;
use oxen_core::timer::TimerKind;
use oxen_core::vcpu::{Hold, Vcpu};
use oxen_types::CpuId;
use oxen_virt::dev::lapic::{Next, Now};
use oxen_virt::{Event, PhysCpu};

use crate::exits;
use crate::percpu;
use crate::vcpu::{Context, HvVcpu};

/// Idle CPUs look again at least this often.
const LONGEST_IDLE: u64 = 1_000_000_000;

/// Never returns: this CPU runs guests from now on.
/// `work` is what else a CPU does each time round.
pub fn cpu_loop(machine: &'static Machine, mut phys: PhysCpu, work: fn(CpuId)) -> ! {
    let cpu = cpu_id();
    let shared = percpu::this();
    loop {
        irq::window();
        machine.fire_timers(cpu);
        work(cpu);
        shared.take_reschedule();
        let decision = machine.pick_vcpu(cpu, machine.now());
        if let Some(other) = decision.resched {
            machine.platform.reschedule_on(other);
        }
        match decision.next {
            None => idle(machine, cpu, decision.until),
            Some(vcpu) => run(machine, &mut phys, &vcpu, decision.until),
        }
    }
}

fn idle(machine: &Machine, cpu: CpuId, until: u64) {
    let shared = percpu::this();
    let start = machine.now();
    let next = machine
        .timers
        .next(cpu)
        .unwrap_or(u64::MAX)
        .min(until)
        .min(start + LONGEST_IDLE);
    shared.set_deadline(next);
    // A kick that came since the scheduler was asked is pending as an interrupt, and ends the halt.
    if !shared.must_reschedule() {
        irq::idle();
    }
    shared.add_idle(machine.now().saturating_sub(start));
}

/// Runs one vcpu until its slice ends, it cannot go on, or the scheduler is to be asked.
fn run(machine: &Machine, phys: &mut PhysCpu, vcpu: &Arc<Vcpu>, slice_end: u64) {
    let cpu = cpu_id();
    let Some(hv) = crate::domain::hv_vcpu(vcpu) else {
        return vcpu.set_cpu(None);
    };
    // The scheduler gave it to this CPU: nobody else has it, but for a toolstack's call that is just done.
    let mut context = hv.context.lock();
    hv.apply_tsc(&mut context);
    percpu::set_current(Some(vcpu.clone()));
    vcpu.enter_state(State::Running, machine.now());
    vcpu.update_time();
    vcpu.start_ticks(cpu);
    context.load(phys);

    loop {
        irq::window();
        let now = machine.now();
        if machine.timers.next(cpu).is_some_and(|next| next <= now) {
            machine.fire_timers(cpu);
        }
        let shared = percpu::this();
        let ends = slice_end.min(shared.reschedules_at());
        if shared.must_reschedule() || now >= ends || !vcpu.is_runnable() {
            break;
        }
        if !prepare(&mut context, hv, vcpu, now) {
            break;
        }
        set_deadline(machine, &mut context, cpu, ends);
        if let Some(exit) = enter(&mut context, phys, hv, vcpu) {
            exits::handle(exit, &mut context, hv, vcpu);
        }
    }

    vcpu.stop_ticks();
    context.unload(phys);
    percpu::set_current(None);
    let state = if vcpu.is_runnable() {
        State::Runnable
    } else if vcpu.is_held(Hold::Blocked) {
        State::Blocked
    } else {
        State::Offline
    };
    vcpu.enter_state(state, machine.now());
    drop(context);
    vcpu.set_cpu(None);
}

/// Sees to it that the guest is left in time. Where the back end can do it, no timer has to be set and no interrupt
/// taken, and the CPU's own timer, set while it was idle, may come early enough anyway.
fn set_deadline(machine: &Machine, context: &mut Context, cpu: CpuId, slice_end: u64) {
    let next = machine.timers.next(cpu).unwrap_or(u64::MAX).min(slice_end);
    let shared = percpu::this();
    match context.run_deadline() {
        Some((timer, tsc_at)) if time::source() == time::ClockSource::Tsc => {
            let needed = next != u64::MAX && !shared.wakes_by(next);
            timer.set_deadline(needed.then(|| tsc_at.get(next)));
        }
        _ => shared.set_deadline(next),
    }
}

/// Other vcpus may change the shadows as often while one tries to enter, before it looks at all else again.
const TRIES: usize = 8;

/// `None` if its shadows did not hold still.
fn enter(
    context: &mut Context,
    phys: &mut PhysCpu,
    hv: &HvVcpu,
    vcpu: &Vcpu,
) -> Option<oxen_virt::Exit> {
    let shared = percpu::this();
    shared.enter_guest(hv.hv.id);
    let generation = hv.hv.flush.generation();
    if context.flushed != generation {
        context.flush_translations();
        context.flushed = generation;
    }
    if let Some(shadow) = &mut context.shadow {
        let backend = &mut *context.backend;
        let mut tries = 0;
        while !shadow.is_ready(&hv.hv, backend) {
            // Whoever holds the shadows may wait for this CPU to be out of the guest.
            shared.leave_guest();
            if tries == TRIES {
                return None;
            }
            tries += 1;
            shadow.prepare(&hv.hv, &*vcpu.domain.memory, backend);
            shared.enter_guest(hv.hv.id);
        }
    }
    let exit = context.backend.run(phys);
    shared.leave_guest();
    if shared.take_stop() {
        log::error!(
            "d{}v{} would not leave its guest: it is stopped",
            hv.hv.id,
            vcpu.id
        );
        let domain = &vcpu.domain;
        domain
            .shutdown(guest_pv_abi::SHUTDOWN_CRASH)
            .perform(domain);
    }
    Some(exit)
}

/// Brings what was posted into the guest. False if it cannot run after all.
fn prepare(context: &mut Context, hv: &HvVcpu, vcpu: &Arc<Vcpu>, now: u64) -> bool {
    let events = hv.posted.take_events();
    if events.init {
        context.init();
        vcpu.take_init();
    }
    if let Some(page) = events.startup
        && vcpu.take_startup()
    {
        context.sipi(page);
        hv.restart_tsc(context);
        vcpu.update_time();
    }
    if !vcpu.is_initialised() {
        vcpu.go_down();
        return false;
    }
    if context
        .lapic_settings()
        .timer_deadline()
        .is_some_and(|deadline| deadline <= now)
    {
        context.lapic().timer_fired(clock(hv, now));
        arm_lapic_timer(context, vcpu);
    }
    if events.nmi {
        if context.backend.can_take_nmi() && !context.backend.event_pending() {
            context.backend.inject(Event::Nmi);
        } else {
            hv.posted.post_nmi();
        }
    }
    deliver(context, vcpu);
    true
}

/// Injects the highest pending interrupt, or asks for the moment when that is possible. Hardware that keeps the local
/// APIC sees to both itself; but the callback's vector is in no APIC.
fn deliver(context: &mut Context, vcpu: &Vcpu) {
    let lent = context.lend_lapic();
    let callback = vcpu.uses_callback() && vcpu.upcall_pending();
    let next = if callback {
        Next::Take(vcpu.domain.callback_vector())
    } else if lent {
        Next::Nothing
    } else {
        context.lapic().due()
    };
    let Next::Take(vector) = next else {
        return context.backend.request_interrupt_window(next.window());
    };
    if context.backend.event_pending() || !context.backend.can_take_interrupt() {
        return context.backend.request_interrupt_window(next.window());
    }
    if !callback {
        context.lapic().accept(vector);
    }
    context.backend.inject(Event::Interrupt(vector));
    let more = match lent {
        true => Next::Nothing,
        false => context.lapic().due(),
    };
    context.backend.request_interrupt_window(more.window());
}

/// The two clocks that a local APIC runs by.
pub fn clock(hv: &HvVcpu, now: u64) -> Now {
    use oxen_core::seams::VcpuArch;
    Now {
        ns: now,
        guest_tsc: time::rdtsc().wrapping_add(hv.tsc_offset()),
    }
}

/// Queues the APIC timer's next expiry, if it changed.
pub fn arm_lapic_timer(context: &mut Context, vcpu: &Arc<Vcpu>) {
    let deadline = context.lapic_settings().timer_deadline();
    if deadline == context.lapic_deadline {
        return;
    }
    context.lapic_deadline = deadline;
    match deadline {
        Some(deadline) => {
            vcpu.arm_timer(TimerKind::Lapic, deadline, cpu_id());
        }
        None => vcpu.cancel_timer(TimerKind::Lapic),
    }
}
