# A starting CPU's first instructions, copied to a page below 1 MiB: real mode, cs = page / 16, ip = 0.
# Goes to long mode at once on the entry code's page tables, then into the image. trampoline.rs fills
# in the fields at the end.

.section .trampoline, "ax", @progbits
.code16
oxen_tramp_start:
    cli
    cld
    mov ax, cs
    mov ds, ax
    # AT&T syntax: the other one does not take differences of symbols as addresses.
.att_syntax prefix
    lgdtl oxen_tramp_gdtr - oxen_tramp_start
    movl $0x20, %eax                    # CR4.PAE
    movl %eax, %cr4
    movl oxen_tramp_boot_cr3 - oxen_tramp_start, %eax
    movl %eax, %cr3
    testl $1, oxen_tramp_misc_enable - oxen_tramp_start
    jz 2f
    movl $0x1a0, %ecx                   # IA32_MISC_ENABLE: NX, if firmware switched it off
    rdmsr
    btrl $2, %edx
    jnc 2f
    wrmsr
2:  movl $0xc0000080, %ecx              # EFER
    rdmsr
    orl oxen_tramp_efer - oxen_tramp_start, %eax
    wrmsr
    movl $0x80010011, %eax              # CR0: PG, WP, ET, PE; caches on
    movl %eax, %cr0
.intel_syntax noprefix
    .byte 0x66, 0xff, 0x2e              # ljmpl *far: to 64-bit code, still in this page
    .short oxen_tramp_far - oxen_tramp_start

.code64
.global oxen_tramp_64
oxen_tramp_64:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    mov rsp, qword ptr [rip + oxen_tramp_stack]
    mov rbx, qword ptr [rip + oxen_tramp_cr3]
    movabs rax, offset oxen_tramp_high
    jmp rax

.balign 8
.global oxen_tramp_gdt
oxen_tramp_gdt:
    .quad 0
    .quad 0x00af9b000000ffff            # 64-bit code
    .quad 0x00cf93000000ffff            # data
oxen_tramp_gdtr:
    .short 23
.global oxen_tramp_gdtr_base
oxen_tramp_gdtr_base:
    .long 0
.balign 4
.global oxen_tramp_far
oxen_tramp_far:
    .long 0
    .short 8
.balign 4
.global oxen_tramp_boot_cr3
oxen_tramp_boot_cr3: .long 0
.global oxen_tramp_misc_enable
oxen_tramp_misc_enable: .long 0
.global oxen_tramp_efer
oxen_tramp_efer: .long 0
.balign 8
.global oxen_tramp_cr3
oxen_tramp_cr3: .quad 0
.global oxen_tramp_stack
oxen_tramp_stack: .quad 0

# In the image, which both page tables have at the same address; from here on on the final ones.
.section .text.oxen_tramp, "ax", @progbits
oxen_tramp_high:
    mov cr3, rbx
    xor ebp, ebp
    push rbp                            # ends backtraces, and aligns as a call would
    jmp oxen_cpu_start
