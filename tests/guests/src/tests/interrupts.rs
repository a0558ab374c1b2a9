//! Storms of interrupts: software interrupts, exceptions, IPIs to oneself and to other CPUs, NMIs.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use guest_pv_abi as abi;

use super::Setting;
use crate::base::clock::Deadline;
use crate::base::code::Code;
use crate::base::{cpu, hypercall, smp, trap};

static STOP: AtomicBool = AtomicBool::new(false);
static LISTENING: AtomicU32 = AtomicU32::new(0);

/// Instructions that fault in one way each.
const FAULTS: &[(&[u8], u64)] = &[
    (&[0x31, 0xc9, 0xf7, 0xf1], 0), // div by zero
    (&[0xcc], 3),                   // int3
    (&[0x0f, 0x0b], 6),             // ud2
    (&[0x8e, 0xd8], 13),            // mov ds, a selector beyond the table
    (&[0x48, 0x8b, 0x07], 14),      // a page that is not there
    (&[0xcd, 0x0e], 14),            // int 14
    (&[0x0f, 0x01, 0xd8], 6),       // vmrun
    (&[0x0f, 0x01, 0xda], 6),       // vmload
    (&[0x0f, 0x01, 0xdc], 6),       // stgi
    (&[0x0f, 0x01, 0xc2], 6),       // vmlaunch
];

pub fn exceptions(cx: &mut Setting) {
    let deadline = Deadline::after_seconds(cx.seconds);
    let mut count = 0u64;
    while !deadline.is_over() {
        for &(bytes, vector) in FAULTS {
            let code = Code::new().load(0, 0x8000).load(7, 1 << 40).bytes(bytes);
            let end = code.run();
            assert!(
                end.is_err_and(|trap| trap.vector == vector),
                "{bytes:x?}: exception {vector} was due, not {}",
                end.err().unwrap_or_default()
            );
            count += 1;
        }
        for _ in 0..64 {
            // SAFETY: its handler counts it and returns.
            unsafe { asm!("int 0x80") };
            count += 1;
        }
    }
    let software = trap::COUNTS[0x80].load(Ordering::Relaxed);
    assert!(software > 0, "no software interrupt came");
    println!("PASS {} exceptions={count} software={software}", cx.name);
}

pub fn ipis(cx: &mut Setting) {
    cpu::apic_write(0xf0, 0x1ff);
    let mut others = 0;
    for number in 1..smp::MOST {
        others += u32::from(smp::start(number, listen).is_ok());
    }
    // An NMI before a CPU has its table of handlers is its end.
    while LISTENING.load(Ordering::SeqCst) < others {
        hypercall::yield_now();
    }
    cpu::enable_interrupts();
    let deadline = Deadline::after_seconds(cx.seconds);
    let mut sent = 0u64;
    while !deadline.is_over() {
        for _ in 0..32 {
            let id = 2 * cx.random.below(u64::from(others) + 2) as u32;
            // Fixed, to one; to oneself, to all, to all others; NMIs to others; lowest priority.
            let command = cx
                .random
                .pick(&[0x4041, 0x44042, 0x84043, 0xc4044, 0xc4400, 0x4141]);
            cpu::apic_write(0x310, id << 24);
            cpu::apic_write(0x300, command);
            sent += 1;
        }
    }
    STOP.store(true, Ordering::SeqCst);
    println!("sent={sent}");
    // Who sleeps is woken once more.
    cpu::apic_write(0x300, 0xc4044);
    smp::join();
    cpu::disable_interrupts();
    let got = trap::interrupts();
    assert!(got > 0, "no IPI came");
    println!("PASS {} others={others} sent={sent} got={got}", cx.name);
}

fn listen(_: usize) {
    cpu::apic_write(0xf0, 0x1ff);
    LISTENING.fetch_add(1, Ordering::SeqCst);
    cpu::enable_interrupts();
    while !STOP.load(Ordering::SeqCst) {
        hypercall::yield_now();
    }
    cpu::disable_interrupts();
}

/// Interrupts that CR8 holds back come when it falls, and not with the next exit by chance.
pub fn task_priority(cx: &mut Setting) {
    cpu::apic_write(0xf0, 0x1ff);
    cpu::enable_interrupts();
    let deadline = Deadline::after_seconds(cx.seconds);
    let mut rounds = 0u64;
    while rounds == 0 || !deadline.is_over() {
        let vector = 0x30 + cx.random.below(0xc0) as u32;
        let class = u64::from(vector >> 4);
        let count = &trap::COUNTS[vector as usize];
        let before = count.load(Ordering::Relaxed);
        cpu::set_cr8(class + cx.random.below(16 - class));
        // To itself, fixed.
        cpu::apic_write(0x300, 0x4_4000 | vector);
        spin();
        let early = count.load(Ordering::Relaxed) != before;
        cpu::set_cr8(cx.random.below(class));
        // Nothing in here exits.
        spin();
        let came = count.load(Ordering::Relaxed).wrapping_sub(before);
        if early || came != 1 {
            println!(
                "FAIL {} vector {vector:#x} early={early} came={came} in round {rounds}",
                cx.name
            );
            return;
        }
        rounds += 1;
    }
    cpu::set_cr8(0);
    cpu::disable_interrupts();
    println!("PASS {} rounds={rounds}", cx.name);
}

fn spin() {
    for _ in 0..1000 {
        core::hint::black_box(0);
    }
}

/// NMIs to oneself by hypercall and by the local APIC, as fast as they can be sent.
pub fn nmis(cx: &mut Setting) {
    cpu::apic_write(0xf0, 0x1ff);
    let deadline = Deadline::after_seconds(cx.seconds);
    let mut sent = 0u64;
    while sent == 0 || !deadline.is_over() {
        for _ in 0..32 {
            hypercall::vcpu(abi::VCPUOP_SEND_NMI, 0, &mut 0u64);
            cpu::apic_write(0x310, 0);
            cpu::apic_write(0x300, 0x4400);
            sent += 2;
        }
    }
    let got = trap::COUNTS[2].load(Ordering::Relaxed);
    assert!(got > 0, "no NMI came of {sent}");
    println!("PASS {} sent={sent} got={got}", cx.name);
}
