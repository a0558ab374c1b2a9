//! Exceptions and interrupts: one IDT for all CPUs, one stub for each vector, one Rust entry.
//!
//! Vectors below 32 are handled here: a fault at an address of the fixup table continues there,
//! every other one is fatal (`panic`). The rest goes to `irq::dispatch`. NMI, #DF and #MC have their
//! own stacks and may strike at any instruction: their path takes no lock without a limit.
//! AMD APM 2, chapter 8; Intel SDM 3, chapter 6.
#![allow(unsafe_code)] // the IDT, and memory of the fixup table

mod fixup;
mod frame;
mod nmi;
mod panic;

pub use frame::TrapFrame;
pub use panic::{PanicAction, backtrace, is_panicking, set_panic_action, set_state_hook};

use crate::cpu::regs;
use crate::irq;
use core::cell::UnsafeCell;
use core::mem::size_of;
use core::ops::Range;

core::arch::global_asm!(include_str!("stubs.s"));

pub(crate) const IST_NMI: u16 = 1;
pub(crate) const IST_DOUBLE_FAULT: u16 = 2;
pub(crate) const IST_MACHINE_CHECK: u16 = 3;

const NMI: u64 = 2;
const DOUBLE_FAULT: u64 = 8;
const MACHINE_CHECK: u64 = 18;
const CODE_SELECTOR: u16 = 8;
const STUB_SIZE: u64 = 16;

#[derive(Clone, Copy)]
#[repr(C)]
struct Gate {
    offset_low: u16,
    selector: u16,
    /// IST number, then type 14 (interrupt gate: IF is cleared), DPL 0, present.
    options: u16,
    offset_middle: u16,
    offset_high: u32,
    reserved: u32,
}

impl Gate {
    const EMPTY: Self = Self {
        offset_low: 0,
        selector: 0,
        options: 0,
        offset_middle: 0,
        offset_high: 0,
        reserved: 0,
    };

    fn new(handler: u64, ist: u16) -> Self {
        Self {
            offset_low: handler as u16,
            selector: CODE_SELECTOR,
            options: 0x8e00 | ist,
            offset_middle: (handler >> 16) as u16,
            offset_high: (handler >> 32) as u32,
            reserved: 0,
        }
    }
}

#[repr(align(16))]
struct Idt(UnsafeCell<[Gate; 256]>);
// SAFETY: written once by the boot CPU before any other runs.
unsafe impl Sync for Idt {}
static IDT: Idt = Idt(UnsafeCell::new([Gate::EMPTY; 256]));

unsafe extern "C" {
    static oxen_trap_stubs: u8;
}

pub(crate) fn init_idt() {
    let stubs = &raw const oxen_trap_stubs as u64;
    // SAFETY: first steps of the boot CPU, nobody else has the table.
    let idt = unsafe { &mut *IDT.0.get() };
    for (vector, gate) in (0u64..).zip(idt.iter_mut()) {
        let ist = match vector {
            NMI => IST_NMI,
            DOUBLE_FAULT => IST_DOUBLE_FAULT,
            MACHINE_CHECK => IST_MACHINE_CHECK,
            _ => 0,
        };
        *gate = Gate::new(stubs + vector * STUB_SIZE, ist);
    }
}

pub(crate) fn load_idt() {
    #[repr(C, packed)]
    struct Pointer {
        limit: u16,
        base: u64,
    }
    let pointer = Pointer {
        limit: (256 * size_of::<Gate>() - 1) as u16,
        base: IDT.0.get() as u64,
    };
    // SAFETY: the table is static and complete.
    unsafe {
        core::arch::asm!("lidt [{}]", in(reg) &raw const pointer,
            options(readonly, nostack, preserves_flags));
    }
}

/// Base and limit of the IDT, for a back end's host state.
pub fn idt_base() -> oxen_types::Vaddr {
    oxen_types::Vaddr::new(IDT.0.get() as u64)
}

/// Runs the machine check handler, for a machine check that came as an exit of a guest.
pub fn raise_machine_check() {
    // SAFETY: the gate is there; its handler runs on a stack of its own.
    unsafe { core::arch::asm!("int 18") }
}

#[unsafe(no_mangle)]
extern "C" fn oxen_trap(frame: &mut TrapFrame) {
    match frame.vector {
        NMI => nmi::handle(frame),
        DOUBLE_FAULT | MACHINE_CHECK => panic::fatal(frame),
        0..32 => match fixup::lookup(frame.rip) {
            Some(target) => frame.rip = target,
            None => panic::fatal(frame),
        },
        vector => irq::dispatch(vector as u8),
    }
}

/// Is it an address of our code?
pub(crate) fn is_text(address: u64) -> bool {
    let (start, end) = crate::layout::image().text;
    Range {
        start: start.raw(),
        end: end.raw(),
    }
    .contains(&address)
}

/// Does it lie in the half of the address space that holds our stacks?
pub(crate) fn is_ours(address: u64) -> bool {
    (crate::layout::M2P_BASE..crate::layout::DIRECT_MAP_END).contains(&address)
}

/// The page fault's address, if the frame is one.
pub(crate) fn fault_address(frame: &TrapFrame) -> Option<u64> {
    (frame.vector == 14).then(regs::cr2)
}
