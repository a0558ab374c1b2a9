//! The world switch (APM 15.5, 15.16).
//!
//! VMRUN itself switches RIP, RSP, RAX, RFLAGS, the control registers, EFER, the descriptor
//! tables and ES/CS/SS/DS. FS, GS, TR, LDTR and the system call MSRs go through VMLOAD and VMSAVE,
//! here at every entry: the host's GS (per-CPU data) and TR (the stacks of NMI and #MC) must be
//! back before GIF opens.
#![allow(unsafe_code, reason = "the entry to a guest")]

use core::arch::naked_asm;
use core::mem::offset_of;

use crate::backend::Gprs;
use crate::spec::overwrite_rsb;

/// Enters the guest of the VMCB at machine address `vmcb` until its next exit. All of `regs` but RAX and RSP, which
/// the VMCB holds, is loaded and stored. Interrupts are off on return. While the guest runs, IF of
/// the host is set, so that a physical interrupt makes it exit; GIF=0 keeps it pending until after
/// the CLI here. If `rsb` is not 0, what the guest left in the return predictor is overwritten.
///
/// # Safety
/// SVM is enabled; `vmcb` holds an initialised VMCB with nested paging, which nothing else touches
/// meanwhile, and whose nested tables map only what the guest may reach; `host` is the page that
/// this CPU's state was saved to with VMSAVE; the guest's FPU state is loaded.
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64" fn enter(regs: &mut Gprs, vmcb: u64, host: u64, rsb: u64) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rcx",
        "push rdx",
        "push rdi",
        "mov rax, rsi",
        "mov rcx, [rdi + {rcx}]",
        "mov rdx, [rdi + {rdx}]",
        "mov rbx, [rdi + {rbx}]",
        "mov rbp, [rdi + {rbp}]",
        "mov rsi, [rdi + {rsi}]",
        "mov r8,  [rdi + {r8}]",
        "mov r9,  [rdi + {r8} + 8]",
        "mov r10, [rdi + {r8} + 16]",
        "mov r11, [rdi + {r8} + 24]",
        "mov r12, [rdi + {r8} + 32]",
        "mov r13, [rdi + {r8} + 40]",
        "mov r14, [rdi + {r8} + 48]",
        "mov r15, [rdi + {r8} + 56]",
        "mov rdi, [rdi + {rdi}]",
        "clgi",
        "sti",
        "vmload rax",
        "vmrun rax",
        "vmsave rax",
        // RDI was the guest's; the top of the stack is `regs`.
        "xchg rdi, [rsp]",
        "mov [rdi + {rcx}], rcx",
        "mov [rdi + {rdx}], rdx",
        "mov [rdi + {rbx}], rbx",
        "mov [rdi + {rbp}], rbp",
        "mov [rdi + {rsi}], rsi",
        "mov [rdi + {r8}], r8",
        "mov [rdi + {r8} + 8], r9",
        "mov [rdi + {r8} + 16], r10",
        "mov [rdi + {r8} + 24], r11",
        "mov [rdi + {r8} + 32], r12",
        "mov [rdi + {r8} + 40], r13",
        "mov [rdi + {r8} + 48], r14",
        "mov [rdi + {r8} + 56], r15",
        "pop rcx",
        "mov [rdi + {rdi}], rcx",
        "pop rax",
        "vmload rax",
        "cli",
        "stgi",
        "pop rcx",
        overwrite_rsb!("rcx"),
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        rcx = const offset_of!(Gprs, rcx),
        rdx = const offset_of!(Gprs, rdx),
        rbx = const offset_of!(Gprs, rbx),
        rbp = const offset_of!(Gprs, rbp),
        rsi = const offset_of!(Gprs, rsi),
        rdi = const offset_of!(Gprs, rdi),
        r8 = const offset_of!(Gprs, r8),
    )
}

const _: () = assert!(offset_of!(Gprs, r15) == offset_of!(Gprs, r8) + 56);
