//! The two 8259s: moved away from the exceptions' vectors and masked, for good.
#![allow(unsafe_code)] // port I/O

use crate::cpu::regs::outb;

/// A spurious interrupt of a masked 8259 still arrives, at its base + 7.
const BASE: u8 = 0x20;

pub fn mask_all() {
    // SAFETY: the 8259s' ports belong to us; guests have no access to them.
    unsafe {
        for (command, base, cascade) in [(0x20u16, BASE, 4u8), (0xa0, BASE + 8, 2)] {
            outb(command, 0x11); // ICW1: edge, cascaded, ICW4 follows
            outb(command + 1, base); // ICW2
            outb(command + 1, cascade); // ICW3
            outb(command + 1, 1); // ICW4: 8086 mode
            outb(command + 1, 0xff); // all masked
        }
    }
}
