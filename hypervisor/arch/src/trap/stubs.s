# One 16-byte stub a vector: an error code where the CPU pushes none, the vector, then the common
# part, which builds a TrapFrame (frame.rs has the same order) and calls oxen_trap with its address.

.section .text.oxen_trap, "ax", @progbits
.balign 16
.global oxen_trap_stubs
oxen_trap_stubs:
.set vector, 0
.rept 256
    .balign 16
    .if !((vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30))
    push 0
    .endif
    .byte 0x68                          # push imm32: the same length for each vector
    .long vector
    .byte 0xe9                          # jmp rel32
    .long oxen_trap_common - . - 4
    .set vector, vector + 1
.endr

.balign 16
oxen_trap_common:
    cld
    push rax
    push rcx
    push rdx
    push rbx
    push rbp
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    mov rdi, rsp
    xor ebp, ebp                        # backtraces stop here and go on from the frame
    call oxen_trap
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rbp
    pop rbx
    pop rdx
    pop rcx
    pop rax
    add rsp, 16
    iretq
