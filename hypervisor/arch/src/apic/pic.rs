//! The two 8259s: moved away from the exceptions' vectors and masked, for good.
#![allow(unsafe_code, reason = "port I/O")]

use x86_64::instructions::port::Port;

/// A spurious interrupt of a masked 8259 still arrives, at its base + 7.
const BASE: u8 = 0x20;

/// Initializes both 8259s and masks all of their inputs.
pub fn mask_all() {
    // SAFETY: the 8259s' ports belong to us; guests have no access to them.
    unsafe {
        for (command, base, cascade) in [(0x20u16, BASE, 4u8), (0xa0, BASE + 8, 2)] {
            let (mut command, mut data) = (Port::new(command), Port::new(command + 1));
            command.write(0x11u8); // ICW1: edge, cascaded, ICW4 follows
            data.write(base); // ICW2
            data.write(cascade); // ICW3
            data.write(1u8); // ICW4: 8086 mode
            data.write(0xffu8); // all masked
        }
    }
}
