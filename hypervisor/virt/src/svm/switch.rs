//! The world switch (APM 15.5, 15.16).
//!
//! VMRUN itself switches RIP, RSP, RAX, RFLAGS, the control registers, EFER, the descriptor
//! tables and ES/CS/SS/DS. FS, GS, TR, LDTR and the system call MSRs go through VMLOAD and VMSAVE,
//! here at every entry: the host's GS (per-CPU data) and TR (the stacks of NMI and #MC) must be
//! back before GIF opens.
#![allow(unsafe_code, reason = "the entry to a guest")]

use core::arch::naked_asm;

use crate::backend::Gprs;
use crate::gprs::{load_gprs, pop_kept, push_kept, store_gprs};
use crate::spec::switch::{SELECTOR, Switch, entry_work, exit_work};

/// Enters the guest of the VMCB at machine address `vmcb` until its next exit. All of `regs` but
/// RAX and RSP, which the VMCB holds, is loaded and stored. Interrupts are off on return. While the
/// guest runs, IF of the host is set, so that a physical interrupt makes it exit; GIF=0 keeps it
/// pending until after the CLI here, and NMIs too until the work at exit that `work` wants is done:
/// nothing returns before.
///
/// # Safety
/// SVM is enabled; `vmcb` holds an initialised VMCB with nested paging, which nothing else touches
/// meanwhile, and whose nested tables map only what the guest may reach; `host` is the page that
/// this CPU's state was saved to with VMSAVE; the guest's FPU state is loaded; the CPU has the
/// registers that `work` names.
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64" fn enter(regs: &mut Gprs, vmcb: u64, host: u64, work: &Switch) {
    naked_asm!(
        push_kept!(),
        "push rcx",
        "push rdx",
        "push rdi",
        "mov rbx, rcx",
        "clgi",
        entry_work!(),
        "mov rax, rsi",
        load_gprs!(),
        "sti",
        "vmload rax",
        "vmrun rax",
        "vmsave rax",
        // RDI is the guest's; the top of the stack is `regs`.
        store_gprs!(),
        "pop rax",
        "vmload rax",
        "cli",
        "pop rbx",
        exit_work!(),
        "stgi",
        pop_kept!(),
        "ret",
        selector = sym SELECTOR,
    )
}
