//! Interrupts: who handles which vector, and the points where they are let in.
//!
//! The hypervisor runs with interrupts off. They arrive
//! - as exits while a guest runs: the vcpu loop then calls `window`;
//! - in `window`, where anything pending is taken;
//! - in `idle`, which halts until there is one.
//!
//! Handlers run with interrupts off on the stack of the interrupted code, which is at one of these
//! points and so holds no lock. A handler is short, takes locks in the order of docs/lock-order.md,
//! and never opens a window itself. The EOI is given after it returns: a handler of a
//! level-triggered line masks the line first, and whoever serves the device unmasks it.
#![allow(unsafe_code, reason = "STI and HLT; function pointers through atomics")]

use core::arch::asm;

use crate::{apic, vectors};
use core::mem;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use x86_64::instructions::interrupts;

/// A handler; its argument is the vector.
pub type Handler = fn(u8);

static HANDLERS: [AtomicPtr<()>; 256] = [const { AtomicPtr::new(null_mut()) }; 256];
static UNEXPECTED: AtomicU64 = AtomicU64::new(0);

/// Replaces the handler of one vector (32 and up).
pub fn set_handler(vector: u8, handler: Handler) {
    HANDLERS[usize::from(vector)].store(handler as *mut (), Ordering::Release);
}

/// One handler for all device vectors.
pub fn set_device_handler(handler: Handler) {
    for vector in vectors::FIRST_DEVICE..=vectors::LAST_DEVICE {
        set_handler(vector, handler);
    }
}

/// Takes what is pending, and returns with interrupts off again. The caller holds no lock.
pub fn window() {
    interrupts::enable();
    interrupts::disable();
}

/// Halts until an interrupt has been taken. An interrupt that came since the caller last looked for
/// work ends the halt at once: STI lets interrupts in only together with HLT. The caller holds no
/// lock.
pub fn idle() {
    // Not `interrupts::enable_and_hlt`: that may be moved over memory accesses, such as the
    // caller's last look for work.
    // SAFETY: changes the interrupt flag only, and leaves it clear.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) }
}

/// Runs the handler of a vector that the local APIC has delivered already: that of an interrupt
/// which a guest's exit acknowledged. Interrupts are off, as in `window`. The EOI is given here.
pub fn dispatch(vector: u8) {
    if vector == vectors::SPURIOUS {
        return; // no EOI: the local APIC has nothing in service
    }
    let handler = HANDLERS[usize::from(vector)].load(Ordering::Acquire);
    if handler.is_null() {
        // Not logged one by one: a stuck line would drown everything.
        if UNEXPECTED.fetch_add(1, Ordering::Relaxed) < 16 {
            log::warn!(
                "CPU{}: interrupt {vector:#x} without a handler",
                crate::cpu::cpu_id()
            );
        }
    } else {
        // SAFETY: only `set_handler` stores here, and it stores such a function.
        let handler = unsafe { mem::transmute::<*mut (), Handler>(handler) };
        handler(vector);
    }
    apic::eoi();
}
