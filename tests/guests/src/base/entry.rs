//! From the PVH entry (32-bit, paging off, EBX = start info) to Rust in long mode, with the first 4
//! GiB mapped one to one by 2 MiB pages (xen docs/misc/pvh.pandoc).

use core::arch::global_asm;
use core::panic::PanicInfo;

use guest_pv_abi::{HvmStartInfo, SHUTDOWN_CRASH, SHUTDOWN_POWEROFF, XEN_HVM_START_MAGIC_VALUE};

use super::{arguments::Arguments, console, hypercall, smp, trap};

global_asm!(
    r#"
    .section .note.Xen, "a", @note
    .balign 4
    .long 4, 4, 18
    .asciz "Xen"
    .long start32

    .section .text.start, "ax", @progbits
    .code32
    .global start32
start32:
    cld
    movl $boot_stack_top, %esp
    movl %ebx, %ebp
    movl $boot_pdpt + 3, boot_pml4
    movl $boot_pdpt, %edi
    movl $boot_directories + 3, %eax
    movl $4, %ecx
1:  movl %eax, (%edi)
    addl $4096, %eax
    addl $8, %edi
    loop 1b
    movl $boot_directories, %edi
    movl $0x83, %eax
    movl $2048, %ecx
2:  movl %eax, (%edi)
    addl $0x200000, %eax
    addl $8, %edi
    loop 2b
    movl $0x20, %eax
    movl %eax, %cr4
    movl $boot_pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x900, %eax
    wrmsr
    movl $0x80000031, %eax
    movl %eax, %cr0
    lgdt boot_gdt_pointer
    ljmp $8, $start64
    .code64
start64:
    xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %ebp, %edi
    call kernel_main
    ud2

    .section .rodata.boot, "a", @progbits
    .balign 8
boot_gdt:
    .quad 0, 0x00209b0000000000
boot_gdt_pointer:
    .word 15
    .long boot_gdt

    .section .bss.boot, "aw", @nobits
    .balign 4096
    .global boot_pml4
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_directories: .skip 4 * 4096
boot_stack: .skip 65536
boot_stack_top:
"#,
    options(att_syntax)
);

#[unsafe(no_mangle)]
extern "C" fn kernel_main(start_info: *const HvmStartInfo) -> ! {
    smp::prepare_first();
    hypercall::prepare();
    console::prepare();
    // SAFETY: the boot protocol gives its address, which is mapped.
    let info = unsafe { start_info.read() };
    assert!(
        info.magic == XEN_HVM_START_MAGIC_VALUE,
        "not started as PVH: {:#x}",
        info.magic
    );
    let arguments = Arguments::at(info.cmdline_paddr);
    crate::tests::run(&arguments);
    console::drain();
    hypercall::shutdown(SHUTDOWN_POWEROFF)
}

/// An exception that no test waits for.
pub fn unexpected(trap: &trap::Trap) -> ! {
    println!("FAIL unexpected {trap}");
    console::drain();
    hypercall::shutdown(SHUTDOWN_CRASH)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    println!("FAIL {}", info.message());
    if let Some(at) = info.location() {
        println!("at {}:{}", at.file(), at.line());
    }
    console::drain();
    hypercall::shutdown(SHUTDOWN_CRASH)
}
