//! Exceptions and interrupts: one IDT for all CPUs, one stub for each vector, one Rust entry.
//!
//! Vectors below 32 are handled here: a fault at an address of the fixup table continues there,
//! every other one is fatal (`panic`). The rest goes to `irq::dispatch`. NMI, #DF and #MC have
//! their own stacks and may strike at any instruction: their path takes no lock without a limit.
//! AMD APM 2, chapter 8; Intel SDM 3, chapter 6.
#![allow(unsafe_code, reason = "the IDT, and memory of the fixup table")]

mod fixup;
mod frame;
mod nmi;
mod panic;

pub use frame::TrapFrame;
pub use panic::{PanicAction, backtrace, is_panicking, set_panic_action, set_state_hook};

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ops::Range;

use x86_64::VirtAddr;
use x86_64::instructions::tables::{DescriptorTablePointer, lidt};
use x86_64::registers::control::Cr2;
use x86_64::structures::idt::{Entry, ExceptionVector, HandlerFunc};

use crate::irq;

core::arch::global_asm!(include_str!("stubs.s"));

/// Places in the TSS's table of interrupt stacks, counted from 0.
pub(crate) const IST_NMI: u16 = 0;
pub(crate) const IST_DOUBLE_FAULT: u16 = 1;
pub(crate) const IST_MACHINE_CHECK: u16 = 2;

const NMI: u64 = ExceptionVector::NonMaskableInterrupt as u64;
const DOUBLE_FAULT: u64 = ExceptionVector::Double as u64;
const PAGE_FAULT: u64 = ExceptionVector::Page as u64;
const MACHINE_CHECK: u64 = ExceptionVector::MachineCheck as u64;
/// Bytes from one stub of stubs.s to the next.
const STUB_SIZE: u64 = 16;

/// All handlers are stubs of one kind, which find an error code on the stack or push a zero, so the
/// table is an array of equal entries.
type Gates = [MaybeUninit<Entry<HandlerFunc>>; 256];

#[repr(align(16))]
struct Idt(UnsafeCell<Gates>);
// SAFETY: written once by the boot CPU before any other runs.
unsafe impl Sync for Idt {}
/// Not initialised in the image, so that the file does not have it.
static IDT: Idt = Idt(UnsafeCell::new([const { MaybeUninit::uninit() }; 256]));

unsafe extern "C" {
    static oxen_trap_stubs: u8;
}

/// Fills the IDT. On the boot CPU, with its first GDT loaded.
pub(crate) fn init_idt() {
    let stubs = &raw const oxen_trap_stubs as u64;
    // SAFETY: first steps of the boot CPU, nobody else has the table.
    let idt = unsafe { &mut *IDT.0.get() };
    for (vector, gate) in (0u64..).zip(idt.iter_mut()) {
        let stack = match vector {
            NMI => Some(IST_NMI),
            DOUBLE_FAULT => Some(IST_DOUBLE_FAULT),
            MACHINE_CHECK => Some(IST_MACHINE_CHECK),
            _ => None,
        };
        // SAFETY: the stub of this vector saves all registers and ends with IRET. Each of the
        // exceptions above has a stack of its own in the TSS (`cpu::set_ist_stacks`).
        unsafe {
            let gate = gate.write(Entry::missing());
            let options = gate.set_handler_addr(VirtAddr::new_truncate(stubs + vector * STUB_SIZE));
            if let Some(stack) = stack {
                options.set_stack_index(stack);
            }
        }
    }
}

pub(crate) fn load_idt() {
    let pointer = DescriptorTablePointer {
        limit: (size_of::<Gates>() - 1) as u16,
        base: VirtAddr::from_ptr(IDT.0.get()),
    };
    // SAFETY: the table is static and complete.
    unsafe { lidt(&pointer) }
}

/// The IDT's linear address, for a back end's host state.
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

/// Whether `address` lies in the hypervisor's code.
pub(crate) fn is_text(address: u64) -> bool {
    let (start, end) = crate::image::image().text;
    Range {
        start: start.raw(),
        end: end.raw(),
    }
    .contains(&address)
}

/// Whether `address` lies in the part of the address space that holds the hypervisor's stacks.
pub(crate) fn is_ours(address: u64) -> bool {
    (oxen_types::layout::START..oxen_types::layout::END).contains(&address)
}

/// The faulting address, if the trap is a page fault.
pub(crate) fn fault_address(frame: &TrapFrame) -> Option<u64> {
    (frame.vector == PAGE_FAULT).then(Cr2::read_raw)
}
