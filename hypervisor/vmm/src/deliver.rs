//! The way of what was posted to a vcpu into the guest: INIT and SIPI first, then the local APIC's
//! timer, an NMI, and the highest interrupt.

use alloc::sync::Arc;

use oxen_core::timer::TimerKind;
use oxen_core::vcpu::Vcpu;
use oxen_virt::Event;
use oxen_virt::dev::lapic::{Next, Now};

use crate::exits::Cx;
use crate::host::Host;
use crate::vcpu::{Context, HvmVcpu};

/// Brings what was posted into the guest. False if it cannot run after all.
pub(crate) fn prepare<H: Host>(cx: &mut Cx<'_, H>, now: u64) -> bool {
    let (hvm, vcpu) = (cx.hvm, cx.vcpu);
    let context = &mut *cx.context;
    let events = hvm.posted.take_events();
    if events.init {
        context.init();
        vcpu.take_init();
    }
    if let Some(page) = events.startup
        && vcpu.take_startup()
    {
        context.sipi(page);
        hvm.restart_tsc(context);
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
        context.lapic().timer_fired(clock(hvm, now));
        arm_lapic_timer(hvm, context, vcpu);
    }
    if events.nmi {
        if context.backend.can_take_nmi() && !context.backend.event_pending() {
            context.backend.inject(Event::Nmi);
        } else {
            hvm.posted.post_nmi();
        }
    }
    deliver(context, vcpu);
    true
}

/// Injects the highest pending interrupt, or asks for the moment when that is possible. Hardware
/// that keeps the local APIC sees to both itself; but the callback's vector is in no APIC.
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
pub(crate) fn clock<H: Host>(hvm: &HvmVcpu<H>, now: u64) -> Now {
    Now {
        ns: now,
        guest_tsc: hvm
            .domain
            .vmm
            .host
            .tsc()
            .wrapping_add(hvm.current_tsc_offset()),
    }
}

/// Queues the APIC timer's next expiry, if it changed.
pub(crate) fn arm_lapic_timer<H: Host>(hvm: &HvmVcpu<H>, context: &mut Context, vcpu: &Arc<Vcpu>) {
    let deadline = context.lapic_settings().timer_deadline();
    if deadline == context.lapic_deadline {
        return;
    }
    context.lapic_deadline = deadline;
    let cpu = hvm.domain.vmm.host.this_cpu();
    match deadline {
        Some(deadline) => {
            vcpu.arm_timer(TimerKind::Lapic, deadline, cpu);
        }
        None => vcpu.cancel_timer(TimerKind::Lapic),
    }
}
