//! Two vcpus of one guest that wake one another by the APIC: on one CPU, or on a CPU each, as the
//! domain's configuration pins them.

use core::sync::atomic::{AtomicBool, Ordering};

use super::measure;
use crate::base::trap::COUNTS;
use crate::base::{clock, cpu, smp};
use crate::tests::Setting;

const THERE: u32 = 0x42;
const BACK: u32 = 0x43;

static LISTENING: AtomicBool = AtomicBool::new(false);

/// A round trip: an interrupt to the other vcpu, which sleeps, and one back to us, asleep by then.
pub fn ipi(cx: &mut Setting) {
    let started = smp::start(1, answer);
    assert!(started.is_ok(), "there is no second vcpu");
    prepare(1);
    while !LISTENING.load(Ordering::SeqCst) {
        clock::sleep_ms(1);
    }
    measure("ipi-ping-pong", 64, || {
        let before = came(BACK);
        send(THERE);
        sleep(BACK, before);
    });
    println!("PASS {}", cx.name);
}

/// For ever.
fn answer(_: usize) {
    prepare(0);
    LISTENING.store(true, Ordering::SeqCst);
    let mut before = 0;
    loop {
        sleep(THERE, before);
        before = came(THERE);
        send(BACK);
    }
}

/// All interrupts go to the same vcpu: its APIC's number is written once.
fn prepare(other: u32) {
    cpu::apic_write(0xf0, 0x1ff);
    cpu::apic_write(0x310, (2 * other) << 24);
}

fn send(vector: u32) {
    cpu::apic_write(0x300, 0x4000 | vector);
}

fn came(vector: u32) -> u32 {
    COUNTS[vector as usize].load(Ordering::Relaxed)
}

fn sleep(vector: u32, before: u32) {
    while came(vector) == before {
        cpu::sleep();
    }
}
