//! Timers: deadlines in the past and beyond all time, periods too short, storms of arming; the
//! local APIC's timer with counts of one; and all of it at once with interrupts on. And sleeps that
//! a timer's interrupt must end whenever it comes.

use core::sync::atomic::Ordering;

use guest_pv_abi as abi;

use super::Setting;
use crate::base::clock::{self, Deadline};
use crate::base::{cpu, hypercall, trap};

const TIMER_VECTOR: u32 = 0x40;

pub fn abuse(cx: &mut Setting) {
    let mut bind = abi::EvtchnBindVirq {
        virq: abi::VIRQ_TIMER,
        vcpu: 0,
        port: 0,
    };
    let bound = hypercall::event(abi::EVTCHNOP_BIND_VIRQ, &mut bind);
    assert!(bound == 0, "VIRQ_TIMER: {bound}");
    cpu::apic_write(0xf0, 0x1ff);
    cpu::apic_write(0x320, 1 << 17 | TIMER_VECTOR);
    cpu::apic_write(0x3e0, 0xb);
    cpu::enable_interrupts();
    let deadline = Deadline::after_seconds(cx.seconds);
    let mut calls = 0u64;
    while !deadline.is_over() {
        for _ in 0..32 {
            one(cx);
            calls += 1;
        }
    }
    cpu::apic_write(0x320, 1 << 16);
    cpu::disable_interrupts();
    let ticks = trap::interrupts();
    assert!(ticks > 0, "no tick of the local APIC came");
    hypercall::vcpu(abi::VCPUOP_STOP_PERIODIC_TIMER, 0, &mut 0u64);
    hypercall::vcpu(abi::VCPUOP_STOP_SINGLESHOT_TIMER, 0, &mut 0u64);
    println!("PASS {} calls={calls} ticks={ticks}", cx.name);
}

/// Sleeps until the local APIC's timer, which is set to fire at about the moment of the HLT: an
/// interrupt that came between STI and HLT would be lost to it, and the guest would sleep for ever.
pub fn halts(cx: &mut Setting) {
    cpu::apic_write(0xf0, 0x1ff);
    cpu::apic_write(0x320, TIMER_VECTOR);
    cpu::apic_write(0x3e0, 0xb);
    let count = &trap::COUNTS[TIMER_VECTOR as usize];
    let deadline = Deadline::after_seconds(cx.seconds);
    let mut sleeps = 0u64;
    while !deadline.is_over() {
        for _ in 0..32 {
            let before = count.load(Ordering::Relaxed);
            cpu::apic_write(0x380, 1 + cx.random.below(8000) as u32);
            while count.load(Ordering::Relaxed) == before {
                cpu::sleep();
            }
            sleeps += 1;
        }
    }
    println!("PASS {} sleeps={sleeps}", cx.name);
}

fn one(cx: &mut Setting) {
    let random = &mut cx.random;
    let now = clock::now();
    let moment = match random.below(6) {
        0 => 0,
        1 => now,
        2 => now.wrapping_sub(random.below(1 << 40)),
        3 => now + random.below(1_000_000),
        4 => u64::MAX - random.below(2),
        _ => random.next(),
    };
    match random.below(6) {
        0 => {
            hypercall::raw(abi::HYPERVISOR_SET_TIMER_OP.into(), [moment, 0, 0, 0, 0]);
        }
        1 | 2 => {
            let flags = random.pick(&[0, 1, u32::MAX]);
            let mut set = abi::VcpuSetSingleshotTimer {
                timeout_abs_ns: moment,
                flags,
                _pad: 0,
            };
            let result = hypercall::vcpu(abi::VCPUOP_SET_SINGLESHOT_TIMER, 0, &mut set);
            assert!(
                result == 0 || flags & 1 != 0,
                "a one-shot timer at {moment}: {result}"
            );
        }
        3 => {
            let period_ns = random.pick(&[0, 1, 999_999, 1_000_000, 1_000_001, u64::MAX]);
            let mut set = abi::VcpuSetPeriodicTimer { period_ns };
            let result = hypercall::vcpu(abi::VCPUOP_SET_PERIODIC_TIMER, 0, &mut set);
            assert!(
                result != 0 || period_ns >= 1_000_000,
                "a period of {period_ns} ns was taken"
            );
        }
        4 => {
            // One-shot, periodic, and masked, with counts from one on.
            let mode = random.pick(&[0, 1 << 17, 1 << 17 | 1 << 16]);
            cpu::apic_write(0x320, mode | TIMER_VECTOR);
            cpu::apic_write(0x3e0, random.below(16) as u32);
            cpu::apic_write(0x380, random.pick(&[0, 1, 2, 1000, u32::MAX]));
        }
        _ => hypercall::poll(&[], now + random.below(200_000)),
    }
}
