//! The start-up page: the code of trampoline.s with its addresses filled in.
#![allow(unsafe_code, reason = "writes physical memory below 1 MiB")]

use crate::boot;
use crate::cpu::Features;
use crate::cpu::features::{self, features};
use core::ptr;
use oxen_types::layout;
use oxen_types::{Maddr, PAGE_SIZE, Vaddr};
use x86_64::registers::model_specific::EferFlags;

#[expect(
    bad_asm_style,
    reason = "one part is AT&T: differences of symbols as addresses"
)]
mod code {
    core::arch::global_asm!(include_str!("trampoline.s"));
}

unsafe extern "C" {
    static __trampoline_start: u8;
    static __trampoline_end: u8;
    static oxen_tramp_gdtr_base: u8;
    static oxen_tramp_gdt: u8;
    static oxen_tramp_far: u8;
    static oxen_tramp_64: u8;
    static oxen_tramp_boot_cr3: u8;
    static oxen_tramp_misc_enable: u8;
    static oxen_tramp_efer: u8;
    static oxen_tramp_cr3: u8;
    static oxen_tramp_stack: u8;
}

pub(super) struct Page {
    address: Maddr,
    linear: *mut u8,
    saved: [u8; PAGE_SIZE],
}

impl Page {
    /// Copies the code to `address`, a page of RAM below 1 MiB that the direct map has.
    pub(super) fn install(address: Maddr) -> Self {
        let Some(linear) = layout::direct_map(address) else {
            panic!("{address:?} is not in the direct map")
        };
        let mut page = Self {
            address,
            linear: linear.raw() as *mut u8,
            saved: [0; PAGE_SIZE],
        };
        let start = &raw const __trampoline_start;
        let length = &raw const __trampoline_end as usize - start as usize;
        // SAFETY: a page of RAM, mapped and not used by others until `drop`; the code fits a page
        // (linker script).
        unsafe {
            ptr::copy_nonoverlapping(page.linear, page.saved.as_mut_ptr(), PAGE_SIZE);
            ptr::copy_nonoverlapping(start, page.linear, length);
        }
        let physical = |symbol: *const u8| address.raw() as u32 + offset(symbol) as u32;
        page.put(
            &raw const oxen_tramp_gdtr_base,
            physical(&raw const oxen_tramp_gdt),
        );
        page.put(
            &raw const oxen_tramp_far,
            physical(&raw const oxen_tramp_64),
        );
        page.put(
            &raw const oxen_tramp_boot_cr3,
            boot::entry::boot_page_tables().raw() as u32,
        );
        let mut efer = EferFlags::LONG_MODE_ENABLE;
        efer.set(
            EferFlags::NO_EXECUTE_ENABLE,
            features().contains(Features::NX),
        );
        page.put(
            &raw const oxen_tramp_misc_enable,
            u32::from(features::misc_enable_hides_nx()),
        );
        page.put(&raw const oxen_tramp_efer, efer.bits() as u32);
        page
    }

    /// Sets what the next CPU loads: page tables and stack.
    pub(super) fn set(&self, page_tables: Maddr, stack: Vaddr) {
        self.put(&raw const oxen_tramp_cr3, page_tables.raw());
        self.put(&raw const oxen_tramp_stack, stack.raw());
    }

    /// The SIPI's operand.
    pub(super) fn number(&self) -> u8 {
        (self.address.raw() >> 12) as u8
    }

    fn put<T>(&self, symbol: *const u8, value: T) {
        // SAFETY: the symbol is a field of that size within the trampoline, so inside the page.
        unsafe { ptr::write_unaligned(self.linear.add(offset(symbol)).cast(), value) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: the page of `install`; the CPUs that ran through it have left.
        unsafe { ptr::copy_nonoverlapping(self.saved.as_ptr(), self.linear, PAGE_SIZE) }
    }
}

fn offset(symbol: *const u8) -> usize {
    symbol as usize - &raw const __trampoline_start as usize
}
