# From the boot loader's 32-bit world into Rust.
#
# Multiboot 1 (specification 0.6.96, 3.2) and Multiboot 2 (2.0, 3.3) both enter here: protected mode,
# paging off, eax = loader's magic, ebx = physical address of its information, no stack, no usable GDT.
# Runs at physical addresses until it jumps into the high half. Tables built here: the first 4 GiB at
# 0 (identity) and at the direct map's base, and the first GiB at VOFFSET (the image).

.section .boot.header, "a", @progbits
.balign 8
.global oxen_mb1_header
oxen_mb1_header:
    .long 0x1badb002
    .long 0x00010003                    # page-aligned modules, memory map, address fields valid
    .long -(0x1badb002 + 0x00010003)
    .long oxen_phys_header
    .long oxen_phys_load
    .long oxen_phys_load_end
    .long oxen_phys_bss_end
    .long oxen_phys_entry

.balign 8
mb2_header:
    .long 0xe85250d6
    .long 0                             # i386, protected mode
    .long mb2_end - mb2_header
    .long -(0xe85250d6 + (mb2_end - mb2_header))
mb2_request:                            # wanted, if the loader has them: command line, modules,
    .short 1, 1                         # memory map, EFI system table, both RSDPs, EFI memory map
    .long mb2_request_end - mb2_request
    .long 1, 2, 3, 6, 12, 14, 15, 17
mb2_request_end:
.balign 8
    .short 6, 1                         # modules on page borders
    .long 8
    .short 0, 0
    .long 8
mb2_end:

.section .boot.text, "ax", @progbits
.code32
.global oxen_start32
oxen_start32:
    cli
    cld
    mov ebp, eax
    mov esi, ebx

    # Zero bss ourselves: not every loader does. It holds the stack and the tables, so before both.
    mov edi, offset oxen_phys_bss_start
    mov ecx, offset oxen_phys_bss_end
    sub ecx, edi
    shr ecx, 2
    xor eax, eax
    rep stosd

    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb no_long_mode
    mov eax, 0x80000001
    cpuid
    bt edx, 29
    jnc no_long_mode

    # 2048 large pages, present and writable: four page directories in a row.
    mov edi, offset oxen_phys_pd
    mov eax, 0x83
    mov ecx, 2048
2:  mov [edi], eax
    mov dword ptr [edi + 4], 0
    add edi, 8
    add eax, 0x200000
    loop 2b

    mov edi, offset oxen_phys_pdpt_low
    mov eax, offset oxen_phys_pd
    or eax, 3
    mov ecx, 4
2:  mov [edi], eax
    add edi, 8
    add eax, 0x1000
    loop 2b

    # The image: entry 322 of its table is VOFFSET's GiB.
    mov eax, offset oxen_phys_pd
    or eax, 3
    mov edi, offset oxen_phys_pdpt_image
    mov [edi + 322 * 8], eax

    # Top level: 0 identity, 262 direct map (0xffff8300_00000000), 261 image (0xffff82d0_80000000).
    mov edi, offset oxen_phys_pml4
    mov eax, offset oxen_phys_pdpt_low
    or eax, 3
    mov [edi], eax
    mov [edi + 262 * 8], eax
    mov eax, offset oxen_phys_pdpt_image
    or eax, 3
    mov [edi + 261 * 8], eax

    # PAE alone: what the firmware had set is not kept. With LA57 the CPU would walk five levels.
    mov eax, 0x20
    mov cr4, eax
    mov cr3, edi
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x100                       # EFER.LME
    wrmsr
    mov eax, 0x80010011                 # PG, WP, ET, PE
    mov cr0, eax

    mov eax, offset oxen_phys_gdtr
    lgdt [eax]
.byte 0xea                              # ljmp 8:oxen_start64_low
    .long oxen_phys_start64
    .short 8

no_long_mode:
    mov esi, offset no_long_mode_text - 0xffff82d080000000
2:  lodsb
    test al, al
    jz 3f
    mov dx, 0x3f8
    out dx, al
    jmp 2b
3:  hlt
    jmp 3b

.code64
.global oxen_start64_low
oxen_start64_low:
    movabs rax, offset start64
    jmp rax

start64:
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov fs, eax
    mov gs, eax
    lgdt [rip + boot_gdtr_high]
    lea rsp, [rip + oxen_boot_stack_top]
    mov edi, ebp
    mov esi, esi
    xor ebp, ebp
    call oxen_rust_start
2:  hlt
    jmp 2b

.section .rodata.boot, "a", @progbits
no_long_mode_text:
    .asciz "Oxen: this CPU has no 64-bit mode.\r\n"
.balign 8
.global oxen_boot_gdt
oxen_boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff            # 64-bit code
    .quad 0x00cf93000000ffff            # data
gdt_end:
.global oxen_boot_gdtr
oxen_boot_gdtr:
    .short gdt_end - oxen_boot_gdt - 1
    .long oxen_phys_gdt
    .long 0
.balign 8
boot_gdtr_high:
    .short gdt_end - oxen_boot_gdt - 1
    .quad oxen_boot_gdt

.section .bss.pages, "aw", @nobits
.balign 4096
.global oxen_boot_pml4
oxen_boot_pml4:       .skip 4096
.global oxen_boot_pdpt_low
oxen_boot_pdpt_low:   .skip 4096
.global oxen_boot_pdpt_image
oxen_boot_pdpt_image: .skip 4096
.global oxen_boot_pd
oxen_boot_pd:         .skip 4 * 4096
.global oxen_boot_stack_guard
oxen_boot_stack_guard: .skip 4096      # absent in the final tables
.global oxen_boot_stack
oxen_boot_stack:      .skip 128 * 1024
.global oxen_boot_stack_top
oxen_boot_stack_top:
