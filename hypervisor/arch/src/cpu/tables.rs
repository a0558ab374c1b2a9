//! GDT, TSS and IST stacks of each CPU, and the IDT that all of them share.
#![allow(unsafe_code, reason = "loads descriptor tables and switches stacks")]

use super::percpu::PerCpu;
use crate::trap;
use core::cell::UnsafeCell;
use oxen_types::Vaddr;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;

/// The tops of the stacks for the exceptions that may strike on a bad or borrowed stack.
#[derive(Clone, Copy, Debug)]
pub struct IstStacks {
    /// For NMIs.
    pub nmi: Vaddr,
    /// For double faults.
    pub double_fault: Vaddr,
    /// For machine checks.
    pub machine_check: Vaddr,
}

const EARLY_STACK: usize = 8192;

/// The boot CPU's exception stacks until it has guarded ones.
#[repr(align(16))]
struct EarlyStacks(UnsafeCell<[[u8; EARLY_STACK]; 3]>);
// SAFETY: only ever touched as stacks, by the boot CPU.
unsafe impl Sync for EarlyStacks {}
static EARLY: EarlyStacks = EarlyStacks(UnsafeCell::new([[0; EARLY_STACK]; 3]));

pub(super) fn init_boot_cpu() {
    let base = EARLY.0.get() as u64;
    let top = |n: u64| Vaddr::new(base + n * EARLY_STACK as u64);
    set_ist_stacks(IstStacks {
        nmi: top(1),
        double_fault: top(2),
        machine_check: top(3),
    });
    trap::init_idt();
    load_on_this_cpu();
}

/// Replaces this CPU's exception stacks. Not while one of them is in use.
pub fn set_ist_stacks(stacks: IstStacks) {
    // SAFETY: only this CPU reaches its own TSS, and no reference to it is kept.
    let tss = unsafe { &mut (*PerCpu::this().tables()).tss };
    let mut entries = tss.interrupt_stack_table;
    entries[usize::from(trap::IST_NMI)] = VirtAddr::new_truncate(stacks.nmi.raw());
    entries[usize::from(trap::IST_DOUBLE_FAULT)] =
        VirtAddr::new_truncate(stacks.double_fault.raw());
    entries[usize::from(trap::IST_MACHINE_CHECK)] =
        VirtAddr::new_truncate(stacks.machine_check.raw());
    tss.interrupt_stack_table = entries;
}

/// Builds and loads this CPU's GDT and TSS, and loads the IDT. FS and GS bases stay.
pub fn load_on_this_cpu() {
    let area = PerCpu::this();
    // SAFETY: only this CPU reaches its own area; the tables live as long as it does. A fresh GDT
    // has the TSS marked as available again, as LTR wants it.
    unsafe {
        let gdt: &'static mut GlobalDescriptorTable = &mut (*area.tables()).gdt;
        *gdt = GlobalDescriptorTable::new();
        let code = gdt.append(Descriptor::kernel_code_segment());
        let data = gdt.append(Descriptor::kernel_data_segment());
        let tss: &'static TaskStateSegment = &(*area.tables()).tss;
        let tss = gdt.append(Descriptor::tss_segment(tss));
        gdt.load();
        CS::set_reg(code);
        SS::set_reg(data);
        DS::set_reg(data);
        ES::set_reg(data);
        load_tss(tss);
    }
    trap::load_idt();
}

/// Loads the IDT again, for a back end whose exits leave another limit behind.
pub fn reload_idt() {
    trap::load_idt();
}

/// This CPU's GDT, for a vcpu back end's host state.
pub fn gdt_base() -> Vaddr {
    let tables = PerCpu::this().tables();
    // SAFETY: takes an address only.
    Vaddr::new(unsafe { &raw const (*tables).gdt } as u64)
}

/// This CPU's TSS, for a vcpu back end's host state.
pub fn tss_base() -> Vaddr {
    let tables = PerCpu::this().tables();
    // SAFETY: takes an address only.
    Vaddr::new(unsafe { &raw const (*tables).tss } as u64)
}

/// Goes on at `next` on another stack; what is on the old one is dropped without being run.
///
/// # Safety
/// `top` is the 16-byte aligned top of a mapped stack that nobody else uses, and nothing on the
/// current stack is referenced from elsewhere.
pub unsafe fn switch_stack(top: Vaddr, next: fn() -> !) -> ! {
    // SAFETY: the caller vouches for the new stack, and that nothing needs the old one. A zero
    // return address ends backtraces.
    unsafe {
        core::arch::asm!(
            "mov rsp, {top}",
            "xor ebp, ebp",
            "push rbp",
            "jmp {enter}",
            top = in(reg) top.raw(),
            in("rdi") next,
            enter = sym enter,
            options(noreturn)
        )
    }
}

#[expect(improper_ctypes_definitions, reason = "a pointer, passed on as it is")]
extern "C" fn enter(next: fn() -> !) -> ! {
    next()
}
