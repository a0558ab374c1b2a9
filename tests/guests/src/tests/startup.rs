//! INIT and SIPI: a CPU that was started by hypercall waits after an INIT, however it was started,
//! and each SIPI that follows an INIT starts it, whatever the moment at which it comes.

use super::Setting;
use crate::base::clock::{self, Deadline};
use crate::base::{cpu, hypercall, smp};

/// The page where a SIPI starts, and the word that is counted up there.
const PAGE: u32 = 8;
const COUNT: *mut u16 = 0x8f00 as *mut u16;
/// lock inc word [0x8f00]; jmp $
const CODE: [u8; 7] = [0xf0, 0xff, 0x06, 0x00, 0x8f, 0xeb, 0xfe];

const INIT: u32 = 0x4500;
const SIPI: u32 = 0x4600;
const APIC_ID: u32 = 2;

pub fn all(cx: &mut Setting) {
    cpu::apic_write(0xf0, 0x1ff);
    // SAFETY: RAM below the kernel, which nothing else uses.
    unsafe {
        ((PAGE << 12) as *mut [u8; 7]).write_volatile(CODE);
        COUNT.write_volatile(0);
    }
    let started = smp::start(1, |_| {
        loop {
            core::hint::spin_loop();
        }
    });
    assert!(started.is_ok(), "it needs two vcpus: {started:?}");
    clock::sleep_ms(20);
    send(INIT);
    clock::sleep_ms(100);
    if count() != 0 {
        println!("FAIL {} it runs without a SIPI", cx.name);
        return;
    }
    let deadline = Deadline::after_seconds(cx.seconds);
    let mut starts = 0u32;
    while starts == 0 || !deadline.is_over() {
        let before = count();
        send(INIT);
        for _ in 0..cx.random.below(400) {
            core::hint::spin_loop();
        }
        send(SIPI | PAGE);
        let patience = Deadline::after_seconds(5);
        while count() == before {
            if patience.is_over() {
                println!("FAIL {} a SIPI was lost after {starts} starts", cx.name);
                return;
            }
            hypercall::yield_now();
        }
        starts += 1;
    }
    println!("PASS {} starts={starts}", cx.name);
}

fn count() -> u16 {
    // SAFETY: as above; only the other CPU writes it.
    unsafe { COUNT.read_volatile() }
}

fn send(command: u32) {
    cpu::apic_write(0x310, APIC_ID << 24);
    cpu::apic_write(0x300, command);
}
