//! Device memory through the direct map, with the size as a value. For pages that are mapped there
//! as device memory, never for RAM: a write to the hypervisor's RAM would break Rust's rules.
//!
//! An address that is not mapped reads as all ones, and a write to it is dropped, as on a bus
//! without a device (the accesses are in the fixup table).
#![allow(unsafe_code, reason = "raw accesses")]

use core::arch::asm;
use oxen_types::Maddr;
use oxen_types::layout;

macro_rules! fixed_up {
    ($instruction:literal, $($operand:tt)*) => {
        asm!(
            concat!("2: ", $instruction),
            "3:",
            ".pushsection .ex_table, \"a\", @progbits",
            ".long 2b - .",
            ".long 3b - .",
            ".popsection",
            $($operand)*, options(nostack))
    };
}

/// Reads 1, 2, 4 or 8 bytes, naturally aligned; all ones otherwise.
pub fn read(at: Maddr, size: u8) -> u64 {
    let Some(address) = place(at, size) else {
        return u64::MAX;
    };
    let mut value = u64::MAX;
    // SAFETY: a fault at label 2 goes on at label 3, `value` unchanged; reads have no effect on
    // memory. RAX is named whole, so that a narrow load changes its low part only.
    unsafe {
        match size {
            1 => fixed_up!("mov al, [{}]", in(reg) address, inout("rax") value),
            2 => fixed_up!("mov ax, [{}]", in(reg) address, inout("rax") value),
            4 => fixed_up!("mov eax, [{}]", in(reg) address, inout("rax") value),
            _ => fixed_up!("mov rax, [{}]", in(reg) address, inout("rax") value),
        }
    }
    match size {
        1 => value & 0xff,
        2 => value & 0xffff,
        4 => value & 0xffff_ffff,
        _ => value,
    }
}

/// Writes 1, 2, 4 or 8 bytes, naturally aligned; nothing otherwise.
pub fn write(at: Maddr, size: u8, value: u64) {
    let Some(address) = place(at, size) else {
        return;
    };
    // SAFETY: callers name device memory (see the module's header); a fault drops the write.
    unsafe {
        match size {
            1 => fixed_up!("mov [{}], al", in(reg) address, in("rax") value),
            2 => fixed_up!("mov [{}], ax", in(reg) address, in("rax") value),
            4 => fixed_up!("mov [{}], eax", in(reg) address, in("rax") value),
            _ => fixed_up!("mov [{}], rax", in(reg) address, in("rax") value),
        }
    }
}

fn place(at: Maddr, size: u8) -> Option<u64> {
    let sound = matches!(size, 1 | 2 | 4 | 8) && at.raw().is_multiple_of(size.into());
    layout::direct_map(at)
        .filter(|_| sound)
        .map(|address| address.raw())
}
