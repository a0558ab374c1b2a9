//! Interrupts: what goes on until the handler has run, without the time spent waiting.
//!
//! The guest waits in a loop of [`WAIT`] instructions a round, which are taken off again: what is
//! left are the instructions of the hypervisor and of the guest's handler. Where the counter tells
//! the time, the figures with a timer mean nothing (docs/performance.md).

use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering};

use guest_pv_abi as abi;

use super::{Bench, now, rounds, sample};
use crate::base::trap::{self, CALLBACK};
use crate::base::{clock, cpu, hypercall};

pub const BENCHES: &[Bench] = &[
    ("self-ipi", self_ipi),
    ("lapic-timer", lapic_timer),
    ("event-upcall", upcall),
    ("singleshot-timer", singleshot),
];

const VECTOR: u32 = 0x41;
const WAIT: u64 = 3;
const ROUNDS: u64 = 32;

/// A fixed interrupt to oneself by the interrupt command register, to the end of its handler.
fn self_ipi(name: &str) {
    cpu::apic_write(0xf0, 0x1ff);
    fired(name, VECTOR, || cpu::apic_write(0x300, 0x4_0000 | VECTOR));
}

/// The local APIC's timer, one-shot: set, fire, handle.
fn lapic_timer(name: &str) {
    cpu::apic_write(0xf0, 0x1ff);
    cpu::apic_write(0x3e0, 0xb);
    cpu::apic_write(0x320, VECTOR);
    fired(name, VECTOR, || cpu::apic_write(0x380, 2000));
    cpu::apic_write(0x320, 1 << 16);
}

/// An event to oneself that is delivered as the callback's vector.
fn upcall(name: &str) {
    let port = super::calls::loopback();
    set_callback();
    fired(name, CALLBACK, || {
        super::calls::clear(port);
        hypercall::send(port);
    });
    super::calls::clear(port);
}

/// VCPUOP_set_singleshot_timer 20 us ahead, VIRQ_TIMER, upcall.
fn singleshot(name: &str) {
    let mut bind = abi::EvtchnBindVirq {
        virq: abi::VIRQ_TIMER,
        vcpu: 0,
        port: 0,
    };
    let bound = hypercall::event(abi::EVTCHNOP_BIND_VIRQ, &mut bind);
    assert!(bound == 0, "VIRQ_TIMER: {bound}");
    set_callback();
    fired(name, CALLBACK, || {
        super::calls::clear(bind.port);
        let mut set = abi::VcpuSetSingleshotTimer {
            timeout_abs_ns: clock::now() + 20_000,
            flags: 0,
            _pad: 0,
        };
        hypercall::vcpu(abi::VCPUOP_SET_SINGLESHOT_TIMER, 0, &mut set);
    });
    hypercall::vcpu(abi::VCPUOP_STOP_PERIODIC_TIMER, 0, &mut 0u64);
    hypercall::event(
        abi::EVTCHNOP_CLOSE,
        &mut abi::EvtchnClose { port: bind.port },
    );
}

fn set_callback() {
    // SAFETY: the page is mapped; only the address is taken.
    let flag = unsafe { &raw const (*clock::shared()).vcpu_info[0].evtchn_upcall_pending };
    trap::UPCALL.store(flag as u64, Ordering::Relaxed);
    let mut param = abi::HvmParam {
        domid: abi::DOMID_SELF,
        pad: 0,
        index: abi::HVM_PARAM_CALLBACK_IRQ,
        // By vector.
        value: 2 << 56 | u64::from(CALLBACK),
    };
    let result = hypercall::with(abi::HYPERVISOR_HVM_OP, abi::HVMOP_SET_PARAM, &mut param);
    assert!(result == 0, "callback vector: {result}");
    // An unmasked port's event leaves the upcall pending: none may be before the first.
    super::calls::clear(0);
}

/// Does what makes an interrupt come, and waits for it, again and again.
fn fired(name: &str, vector: u32, mut cause: impl FnMut()) {
    let count = &trap::COUNTS[vector as usize];
    let rounds = rounds(ROUNDS);
    cpu::enable_interrupts();
    sample(name, rounds, || {
        let mut waited = 0;
        let began = now();
        for _ in 0..rounds {
            let before = count.load(Ordering::Relaxed);
            cause();
            waited += wait_for_change(count, before);
        }
        (now() - began).saturating_sub(waited * WAIT)
    });
    cpu::disable_interrupts();
}

/// Rounds until the counter is another.
fn wait_for_change(count: &AtomicU32, before: u32) -> u64 {
    let mut rounds = 0u64;
    // SAFETY: reads a counter that the interrupt's handler changes.
    unsafe {
        asm!(
            "2: inc {rounds}",
            "cmp dword ptr [{count}], {before:e}",
            "je 2b",
            rounds = inout(reg) rounds,
            count = in(reg) count.as_ptr(),
            before = in(reg) before,
        );
    }
    rounds
}
