//! Instructions that only 32-bit protected mode has: this kernel leaves long mode for good, and
//! says nothing any more.
//!
//! `alignment`: code at CPL 3 with an odd stack pointer and alignment checks on raises #AC, whose
//! handler is at CPL 3 too, so that its delivery pushes onto the same stack and raises #AC again,
//! and so on for ever (XSA-156). Interrupts of the host's never come between. The machine and its
//! neighbours must not notice. (QEMU's TCG knows no #AC.)
//!
//! `task-switch`: a far jump to another task's TSS, which loads CR3 with a value of the guest's
//! choice, past the intercept of CR3. The domain must end, or (with nested paging, where an
//! emulator has no such intercept) harm nobody.

use core::arch::global_asm;

use super::Setting;
use crate::base::console;

unsafe extern "C" {
    fn leave_long_mode(task_switch: u64) -> !;
    static mut legacy_gdt: [u64; 7];
    static legacy_handler: u8;
    static legacy_task: u8;
    static mut legacy_idt: [u64; 32];
    static mut legacy_tss: [[u32; 26]; 2];
}

pub fn alignment(_: &mut Setting) {
    leave(false);
}

pub fn task_switch(_: &mut Setting) {
    leave(true);
}

fn leave(task_switch: bool) -> ! {
    const GATE: u64 = 0x8e00 << 32;
    const CODE_3: u64 = 0x1b << 16;
    const TSS: u64 = 0x89 << 40 | 0x67;
    const CR3: usize = 7;
    const EIP: usize = 8;
    const SELECTORS: core::ops::Range<usize> = 18..24;
    const IO_MAP: usize = 25;
    // SAFETY: one CPU uses these tables, which nothing else refers to; the code below expects what
    // is in them.
    unsafe {
        let handler = (&raw const legacy_handler) as u64;
        legacy_idt[17] = handler & 0xffff | CODE_3 | GATE | (handler >> 16 & 0xffff) << 48;
        for n in 0..2 {
            let base = (&raw const legacy_tss[n]) as u64;
            legacy_gdt[5 + n] = TSS | (base & 0xff_ffff) << 16 | (base >> 24 & 0xff) << 56;
        }
        legacy_tss[1][CR3] = 0x0066_6000;
        legacy_tss[1][EIP] = (&raw const legacy_task) as u32;
        // EFLAGS, and the stack.
        legacy_tss[1][9] = 2;
        legacy_tss[1][14] = 0x0080_8000;
        for slot in SELECTORS {
            legacy_tss[1][slot] = 0x10;
        }
        legacy_tss[1][19] = 8;
        legacy_tss[1][IO_MAP] = 0x68 << 16;
        println!("LEAVING");
        console::drain();
        leave_long_mode(task_switch.into())
    }
}

global_asm!(
    r#"
    .section .data.legacy, "aw"
    .balign 16
    .global legacy_gdt
legacy_gdt:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00cffb000000ffff, 0x00cff3000000ffff, 0, 0
legacy_gdt_pointer:
    .word 55
    .quad legacy_gdt
    .balign 16
    .global legacy_idt
legacy_idt: .skip 256
legacy_idt_pointer:
    .word 255
    .long legacy_idt
    .balign 128
    .global legacy_tss
legacy_tss: .skip 208

    .section .text.legacy, "ax", @progbits
    .code64
    .global leave_long_mode
leave_long_mode:
    mov ebx, edi
    lgdt [legacy_gdt_pointer]
    push 8
    lea eax, [legacy_32]
    push rax
    retfq
    .code32
legacy_32:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov eax, cr0
    and eax, 0x7fffffff
    mov cr0, eax
    mov ecx, 0xc0000080
    rdmsr
    and eax, 0xfffffeff
    wrmsr
    lidt [legacy_idt_pointer]
    test ebx, ebx
    jnz 4f
    mov eax, cr0
    or eax, 0x40000
    mov cr0, eax
    push 0x23
    push 0x00808001
    push 0x40002
    push 0x1b
    lea eax, [legacy_ring3]
    push eax
    iretd
legacy_ring3:
    mov eax, [esp]
    jmp legacy_ring3
    .global legacy_handler
legacy_handler:
    jmp legacy_handler
4:  mov eax, 0x28
    ltr ax
    .byte 0xea
    .long 0
    .word 0x30
    .global legacy_task
legacy_task:
    jmp legacy_task
    .code64
"#
);
