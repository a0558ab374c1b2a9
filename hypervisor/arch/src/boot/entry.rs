//! The entry from assembly: copies the boot information, then hands over to the kernel's main.
#![allow(
    unsafe_code,
    reason = "the entry stub, and the loader's structures in physical memory"
)]

use super::{BootInfo, parse};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, Ordering};
use oxen_types::layout;
use oxen_types::{Maddr, Vaddr};

core::arch::global_asm!(include_str!("entry.s"));

unsafe extern "C" {
    static oxen_boot_pml4: u8;
    static oxen_boot_stack_guard: u8;
}

unsafe extern "Rust" {
    /// The kernel crate's main, on the boot CPU and the boot stack, interrupts off. The
    /// `oxen_arch::main!` macro defines it.
    safe fn oxen_main(info: &'static BootInfo) -> !;
}

static ENTERED: AtomicBool = AtomicBool::new(false);

/// The page below the boot stack, which the final tables leave out: a stack that outgrows its room
/// would run into the entry code's page tables otherwise.
pub fn stack_guard() -> Vaddr {
    Vaddr::new(&raw const oxen_boot_stack_guard as u64)
}

/// The page tables of the entry code, with the identity map that a starting CPU needs.
pub(crate) fn boot_page_tables() -> Maddr {
    Maddr::new(&raw const oxen_boot_pml4 as u64 - layout::IMAGE_OFFSET)
}

#[unsafe(no_mangle)]
extern "C" fn oxen_rust_start(magic: u32, info: u32) -> ! {
    assert!(!ENTERED.swap(true, Ordering::Relaxed));
    crate::cpu::init_boot_cpu();
    crate::console::init_early();
    match parse(magic, info, &physical) {
        Ok(info) => oxen_main(Box::leak(Box::new(info))),
        Err(error) => panic!("cannot use the boot loader's information: {error:?}"),
    }
}

/// Memory that the entry tables map. Page 0 counts as absent: no loader puts anything there.
fn physical(address: u64, length: usize) -> Option<&'static [u8]> {
    let end = address.checked_add(length as u64)?;
    if address == 0 || end > layout::BOOT_MAPPED {
        return None;
    }
    let start = layout::direct_map(Maddr::new(address))?;
    // SAFETY: the entry tables map it; only the loader's data is read so, and nothing writes to it
    // before the parser is done.
    Some(unsafe { core::slice::from_raw_parts(start.raw() as *const u8, length) })
}
