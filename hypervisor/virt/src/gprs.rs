//! The general registers in both vendors' world switches, which the hardware leaves to us but for a
//! few: text of the assembler, with RDI at a `Gprs` wherever there is one.

use core::mem::offset_of;

use crate::backend::Gprs;

/// Pushes the registers that the ABI wants kept.
macro_rules! push_kept {
    () => {
        "push rbp
         push rbx
         push r12
         push r13
         push r14
         push r15"
    };
}

macro_rules! pop_kept {
    () => {
        "pop r15
         pop r14
         pop r13
         pop r12
         pop rbx
         pop rbp"
    };
}

/// All but RAX and RSP; RDI last.
macro_rules! load_gprs {
    () => {
        "mov rcx, [rdi + 8]
         mov rdx, [rdi + 16]
         mov rbx, [rdi + 24]
         mov rbp, [rdi + 40]
         mov rsi, [rdi + 48]
         mov r8,  [rdi + 64]
         mov r9,  [rdi + 72]
         mov r10, [rdi + 80]
         mov r11, [rdi + 88]
         mov r12, [rdi + 96]
         mov r13, [rdi + 104]
         mov r14, [rdi + 112]
         mov r15, [rdi + 120]
         mov rdi, [rdi + 56]"
    };
}

/// All but RAX and RSP; the top of the stack, which goes, is the `Gprs`. Leaves RDI there, and
/// overwrites RCX.
macro_rules! store_gprs {
    () => {
        "xchg rdi, [rsp]
         mov [rdi + 8], rcx
         mov [rdi + 16], rdx
         mov [rdi + 24], rbx
         mov [rdi + 40], rbp
         mov [rdi + 48], rsi
         mov [rdi + 64], r8
         mov [rdi + 72], r9
         mov [rdi + 80], r10
         mov [rdi + 88], r11
         mov [rdi + 96], r12
         mov [rdi + 104], r13
         mov [rdi + 112], r14
         mov [rdi + 120], r15
         pop rcx
         mov [rdi + 56], rcx"
    };
}

pub(crate) use {load_gprs, pop_kept, push_kept, store_gprs};

const _: () = {
    assert!(offset_of!(Gprs, rax) == 0 && offset_of!(Gprs, rcx) == 8);
    assert!(offset_of!(Gprs, rdx) == 16 && offset_of!(Gprs, rbx) == 24);
    assert!(offset_of!(Gprs, rbp) == 40 && offset_of!(Gprs, rsi) == 48);
    assert!(offset_of!(Gprs, rdi) == 56 && offset_of!(Gprs, r8) == 64);
    assert!(offset_of!(Gprs, r15) == 120);
};
