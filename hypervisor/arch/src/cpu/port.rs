//! Port I/O with the size as a value, for accesses passed on from dom0 and PCI configuration.
//!
//! Safe to call although a device can be made to write anywhere: dom0 has the machine's devices by
//! design, and callers check its permissions first.
#![allow(unsafe_code)] // IN and OUT

use super::regs::{inb, inl, inw, outb, outl, outw};

/// Reads 1, 2 or 4 bytes; all ones for another size.
pub fn read(port: u16, size: u8) -> u32 {
    // SAFETY: see the module's header.
    unsafe {
        match size {
            1 => inb(port).into(),
            2 => inw(port).into(),
            4 => inl(port),
            _ => u32::MAX,
        }
    }
}

/// Writes 1, 2 or 4 bytes; nothing for another size.
pub fn write(port: u16, size: u8, value: u32) {
    // SAFETY: see the module's header.
    unsafe {
        match size {
            1 => outb(port, value as u8),
            2 => outw(port, value as u16),
            4 => outl(port, value),
            _ => {}
        }
    }
}

pub fn read_u8(port: u16) -> u8 {
    read(port, 1) as u8
}

pub fn read_u32(port: u16) -> u32 {
    read(port, 4)
}

pub fn write_u8(port: u16, value: u8) {
    write(port, 1, value.into());
}

pub fn write_u32(port: u16, value: u32) {
    write(port, 4, value);
}
