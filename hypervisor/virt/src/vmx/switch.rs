//! The world switch (SDM volume 3, 27 and 28).
//!
//! VM entry and exit switch RIP, RSP, RFLAGS, the control registers, EFER, PAT, the descriptor
//! tables and all segments. The general registers are ours to switch, here.
#![allow(unsafe_code, reason = "the entry to a guest")]

use core::arch::naked_asm;

use super::field;
use crate::backend::Gprs;
use crate::gprs::{load_gprs, pop_kept, push_kept, store_gprs};
use crate::spec::overwrite_rsb;

/// The VMCS was entered before, since it was loaded.
pub(super) const RESUME: u64 = 1;
/// Fill and store buffers are cleared at entry.
pub(super) const VERW: u64 = 2;
/// What the guest left in the return predictor is overwritten at exit.
pub(super) const RSB: u64 = 4;

/// VERW is fastest with a writable data segment: ours is the second of the GDT.
static SELECTOR: u16 = 0x10;

/// Enters the guest of the current VMCS until its next exit: with VMRESUME or VMLAUNCH, and clearing buffers
/// as the flags tell. All of `regs` but RSP, which the VMCS holds, is loaded and stored. Interrupts are off
/// on return. Returns 0, or 1 if the CPU refused the instruction (`field::INSN_ERROR` tells why).
///
/// # Safety
/// The current VMCS is complete, its host state is this CPU's with `exit_point` as RIP, its nested
/// tables map only what the guest may reach, and the guest's FPU state is loaded.
#[unsafe(naked)]
pub(super) unsafe extern "sysv64" fn enter(regs: &mut Gprs, flags: u64) -> u64 {
    naked_asm!(
        push_kept!(),
        "push rsi",
        "push rdi",
        "mov eax, {host_rsp}",
        "vmwrite rax, rsp",
        // With a selector in memory VERW clears buffers too: from here on only the guest's values are read.
        "test sil, {verw}",
        "jz 4f",
        "verw word ptr [rip + {selector}]",
        "4:",
        // Kept through the moves below, which leave the flags alone.
        "test sil, {resume}",
        "mov rax, [rdi]",
        load_gprs!(),
        "jz 2f",
        "vmresume",
        "jmp 3f",
        "2:",
        "vmlaunch",
        "3:",
        // Refused: the guest's registers are where they were.
        "pop rdi",
        "pop rsi",
        "mov eax, 1",
        pop_kept!(),
        "ret",
        host_rsp = const field::HOST_RSP,
        verw = const VERW,
        resume = const RESUME,
        selector = sym SELECTOR,
    )
}

/// Where exits arrive, with the stack as `enter` left it: the host's RIP in the VMCS. Not to be called.
#[unsafe(naked)]
pub(super) unsafe extern "sysv64" fn exit_point() {
    naked_asm!(
        // RDI is the guest's; the top of the stack is `regs`.
        store_gprs!(),
        "mov [rdi], rax",
        "pop rcx",
        "and ecx, {rsb}",
        overwrite_rsb!("rcx"),
        "xor eax, eax",
        pop_kept!(),
        "ret",
        rsb = const RSB,
    )
}
