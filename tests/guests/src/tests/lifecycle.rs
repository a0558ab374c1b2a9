//! The ways in which a domain ends, and one that stays and answers.

use core::arch::asm;

use guest_pv_abi as abi;

use super::Setting;
use crate::base::{clock, console, cpu, hypercall, trap};

pub fn hello(cx: &mut Setting) {
    println!("PASS {} at {} ns", cx.name, clock::now());
}

/// Answers each line that is typed: how a test sees that a neighbour still runs. Crashes on demand.
pub fn echo(_: &mut Setting) {
    println!("READY");
    let mut line = [0; 80];
    let mut len = 0;
    loop {
        match console::read() {
            Some(b'\r' | b'\n') => {
                let text = core::str::from_utf8(&line[..len]).unwrap_or("?");
                if text == "crash" {
                    hypercall::shutdown(abi::SHUTDOWN_CRASH);
                }
                println!("pong {text} at {}", clock::now() / 1_000_000);
                len = 0;
            }
            Some(byte) if len < line.len() => {
                line[len] = byte;
                len += 1;
            }
            Some(_) => {}
            None => clock::sleep_ms(5),
        }
    }
}

pub fn reboot(_: &mut Setting) {
    console::drain();
    hypercall::shutdown(abi::SHUTDOWN_REBOOT)
}

pub fn crash(_: &mut Setting) {
    console::drain();
    hypercall::shutdown(abi::SHUTDOWN_CRASH)
}

pub fn suspend(cx: &mut Setting) {
    console::drain();
    let result = hypercall::request_shutdown(abi::SHUTDOWN_SUSPEND);
    println!("PASS {} resumed with {result}", cx.name);
}

/// Arms the hypervisor's watchdog and forgets it.
pub fn watchdog(cx: &mut Setting) {
    let mut watchdog = abi::SchedWatchdog { id: 0, timeout: 1 };
    let result = hypercall::with(
        abi::HYPERVISOR_SCHED_OP,
        abi::SCHEDOP_WATCHDOG,
        &mut watchdog,
    );
    println!("watchdog {result}");
    clock::sleep_ms(cx.seconds * 1000);
    println!("FAIL {} still here", cx.name);
}

/// An exception without any handler, and none for the fault that follows.
pub fn triple(_: &mut Setting) {
    console::drain();
    let nothing = trap::TablePointer { limit: 0, base: 0 };
    // SAFETY: it ends the domain, as it should.
    unsafe { asm!("lidt [{}]", "ud2", in(reg) &raw const nothing) };
}

/// For ever, with interrupts off.
pub fn spin(_: &mut Setting) {
    println!("SPINNING");
    cpu::disable_interrupts();
    loop {
        core::hint::spin_loop();
    }
}

/// Halts with interrupts off: for the last vcpu this is a power-off.
pub fn halt_without_interrupts(_: &mut Setting) {
    console::drain();
    // SAFETY: it ends the domain, as it should.
    unsafe { asm!("cli", "hlt") };
    println!("FAIL woken with interrupts off");
}
