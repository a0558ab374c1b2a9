# From the boot loader into the first stage, and from there into the hypervisor, as the loader would enter it:
# protected mode, paging off, eax = loader's magic, ebx = address of its information (Multiboot 1, 0.6.96, 3.2;
# Multiboot 2, 2.0, 3.3).

.section .boot.header, "a", @progbits
.balign 8
.global oxen_mb1_header
oxen_mb1_header:
    .long 0x1badb002
    .long 0x00010003                    # page-aligned modules, memory map, address fields valid
    .long -(0x1badb002 + 0x00010003)
    .long oxen_low_header
    .long oxen_load
    .long 0                             # to the end of the file
    .long oxen_end
    .long oxen_low_entry

.balign 8
.global oxen_mb2_header
oxen_mb2_header:
    .long 0xe85250d6
    .long 0                             # i386, protected mode
    .long mb2_end - oxen_mb2_header
    .long -(0xe85250d6 + (mb2_end - oxen_mb2_header))
mb2_request:                            # as the hypervisor's own header: command line, modules,
    .short 1, 1                         # memory map, EFI system table, both RSDPs, EFI memory map
    .long mb2_request_end - mb2_request
    .long 1, 2, 3, 6, 12, 14, 15, 17
mb2_request_end:
.balign 8
    .short 2, 0                         # where the file goes
    .long 24
    .long oxen_low_header2
    .long oxen_load
    .long 0                             # to the end of the file
    .long oxen_end
    .short 3, 0
    .long 12
    .long oxen_low_entry
.balign 8
    .short 6, 1                         # modules on page borders
    .long 8
    .short 0, 0
    .long 8
mb2_end:

.section .boot.text, "ax", @progbits
.code32
.global oxen_stage32
oxen_stage32:
    cli
    cld
    mov ebp, eax
    # The file moves away from where the hypervisor will be.
    mov esi, offset oxen_load
    mov edi, offset oxen_stage
    mov ecx, offset oxen_low_packed
    mov ecx, [ecx]                      # bytes of what is packed, with its header
    add ecx, offset oxen_stage_packed
    rep movsb
    mov eax, offset stage32
    jmp eax

stage32:
    mov edi, offset oxen_tables
    mov ecx, offset oxen_tables_end
    sub ecx, edi
    shr ecx, 2
    xor eax, eax
    rep stosd

    mov esi, ebx
    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb no_long_mode
    mov eax, 0x80000001
    cpuid
    bt edx, 29
    jnc no_long_mode
    mov ebx, esi

    # The first GiB at its own addresses, in large pages.
    mov edi, offset oxen_tables
    lea eax, [edi + 0x1003]
    mov [edi], eax
    lea eax, [edi + 0x2003]
    mov [edi + 0x1000], eax
    mov eax, 0x83
    mov ecx, 512
    lea edx, [edi + 0x2000]
2:  mov [edx], eax
    add edx, 8
    add eax, 0x200000
    loop 2b

    mov eax, 0x20                       # PAE
    mov cr4, eax
    mov cr3, edi
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x100                       # EFER.LME
    wrmsr
    mov eax, 0x80000011                 # PG, ET, PE
    mov cr0, eax
    mov eax, offset gdtr
    lgdt [eax]
.byte 0xea                              # ljmp 8:stage64
    .long stage64
    .short 8

no_long_mode:
    mov esi, offset no_long_mode_text
2:  lodsb
    test al, al
    jz 3f
    mov dx, 0x3f8
    out dx, al
    jmp 2b
3:  hlt
    jmp 3b

.code64
stage64:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov esp, offset oxen_tables + 0x5000
    mov edi, offset oxen_packed
    mov esi, offset oxen_load
    mov edx, offset oxen_tables + 0x5000
    call oxen_unpack                    # keeps rbx and rbp; returns the address to go on at
    mov esi, eax
    push 24
    push offset back32
    retfq

.code32
back32:
    mov eax, 0x11                       # ET, PE
    mov cr0, eax
    mov ecx, 0xc0000080
    rdmsr
    and eax, ~0x100
    wrmsr
    xor eax, eax
    mov cr4, eax
    mov eax, ebp
    jmp esi

.section .rodata.boot, "a", @progbits
.balign 8
gdt:
    .quad 0
    .quad 0x00209a0000000000            # 64-bit code
    .quad 0x00cf92000000ffff            # data
    .quad 0x00cf9a000000ffff            # 32-bit code
gdtr:
    .short 31
    .long gdt
no_long_mode_text:
    .asciz "Oxen: this CPU has no long mode\r\n"
.code64
