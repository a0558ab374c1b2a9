//! Port I/O with the size as a value, for accesses passed on from dom0 and PCI configuration.
//!
//! These functions are safe, although a device can be made to write anywhere: dom0 has the
//! machine's devices by design, and callers check its permissions first.
#![allow(unsafe_code, reason = "IN and OUT")]

use x86_64::instructions::port::{PortRead, PortWrite};

/// Reads 1, 2 or 4 bytes; all ones for another size.
pub fn read(port: u16, size: u8) -> u32 {
    // SAFETY: what a device may do is dom0's to decide, see the module's header.
    unsafe {
        match size {
            1 => u8::read_from_port(port).into(),
            2 => u16::read_from_port(port).into(),
            4 => u32::read_from_port(port),
            _ => u32::MAX,
        }
    }
}

/// Writes 1, 2 or 4 bytes; nothing for another size.
pub fn write(port: u16, size: u8, value: u32) {
    // SAFETY: what a device may do is dom0's to decide, see the module's header.
    unsafe {
        match size {
            1 => u8::write_to_port(port, value as u8),
            2 => u16::write_to_port(port, value as u16),
            4 => u32::write_to_port(port, value),
            _ => {}
        }
    }
}

/// Writes 4 bytes: the address register of PCI configuration.
pub fn write_u32(port: u16, value: u32) {
    write(port, 4, value);
}
