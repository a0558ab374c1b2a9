//! The world switch (SDM volume 3, 27 and 28).
//!
//! VM entry and exit switch RIP, RSP, RFLAGS, the control registers, EFER, PAT, the descriptor
//! tables and all segments. The general registers are ours to switch, here.
#![allow(unsafe_code, reason = "the entry to a guest")]

use core::arch::naked_asm;

use super::field;
use crate::backend::Gprs;
use crate::gprs::{load_gprs, pop_kept, push_kept, store_gprs};
use crate::spec::switch::{SELECTOR, Switch, entry_work, exit_work};

/// Enters the guest of the current VMCS until its next exit: with VMRESUME if the VMCS was entered
/// before, since it was loaded (`resume`), or VMLAUNCH. All of `regs` but RSP, which the VMCS
/// holds, is loaded and stored. Interrupts are off on return. Returns 0, or 1 if the CPU refused
/// the instruction (`field::INSN_ERROR` tells why).
///
/// # Safety
/// The current VMCS is complete, its host state is this CPU's with `exit_point` as RIP, its nested
/// tables map only what the guest may reach, and the guest's FPU state is loaded; the CPU has the
/// registers that `work` names.
#[unsafe(naked)]
pub(super) unsafe extern "sysv64" fn enter(regs: &mut Gprs, resume: u64, work: &Switch) -> u64 {
    naked_asm!(
        push_kept!(),
        "push rdx",
        "push rdi",
        "mov eax, {host_rsp}",
        "vmwrite rax, rsp",
        "mov rbx, rdx",
        // From here on only the guest's values are read.
        entry_work!(),
        // Kept through the moves below, which leave the flags alone.
        "test rsi, rsi",
        "mov rax, [rdi]",
        load_gprs!(),
        "jz 2f",
        "vmresume",
        "jmp 3f",
        "2:",
        "vmlaunch",
        "3:",
        // Refused: the guest's registers are where they were, and SPEC_CTRL is the guest's.
        "pop rdi",
        "pop rbx",
        exit_work!(),
        "mov eax, 1",
        pop_kept!(),
        "ret",
        host_rsp = const field::HOST_RSP,
        selector = sym SELECTOR,
    )
}

/// Where exits arrive, with the stack as `enter` left it: the host's RIP in the VMCS. Not to be
/// called.
#[unsafe(naked)]
pub(super) unsafe extern "sysv64" fn exit_point() {
    naked_asm!(
        // RDI is the guest's; the top of the stack is `regs`.
        store_gprs!(),
        "mov [rdi], rax",
        "pop rbx",
        exit_work!(),
        "xor eax, eax",
        pop_kept!(),
        "ret",
    )
}
