//! The part of both vendors' world switches that is about speculation: text of the assembler, with
//! a [`Switch`] that says what to do.
//!
//! At entry: after it no data of the hypervisor's is loaded, and nothing returns, before the guest
//! runs. At exit: before it no RET, CALL or JMP through memory or a register is executed, so none
//! is predicted by what a guest trained. Each ends with an LFENCE, so that a conditional jump that
//! is mispredicted skips nothing: what is behind does not begin before the jump is decided.

use core::mem::offset_of;

/// The work of one entry, and of the exit that ends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub(crate) struct Switch {
    /// Of `entry` and of `exit`.
    pub(crate) entry: u32,
    pub(crate) exit: u32,
    /// For SPEC_CTRL.
    pub(crate) guest: u64,
    pub(crate) host: u64,
}

const _: () = {
    assert!(offset_of!(Switch, entry) == 0 && offset_of!(Switch, exit) == 4);
    assert!(offset_of!(Switch, guest) == 8 && offset_of!(Switch, host) == 16);
};

pub(crate) mod entry {
    pub(crate) const SPEC_CTRL: u32 = 1;
    pub(crate) const L1D_FLUSH: u32 = 2;
    pub(crate) const DIV: u32 = 4;
    pub(crate) const VERW: u32 = 8;
}

pub(crate) mod exit {
    pub(crate) const IBPB: u32 = 1;
    pub(crate) const SPEC_CTRL: u32 = 2;
    pub(crate) const RSB: u32 = 4;
}

/// VERW is fastest with a writable data segment: ours is the second of the GDT. Only with the
/// selector in memory does it clear buffers.
pub(crate) static SELECTOR: u16 = 0x10;

/// With RBX at the `Switch`; changes RAX, RCX, RDX and flags. Needs the operand `selector`.
macro_rules! entry_work {
    () => {
        "test byte ptr [rbx], 1
         jz 51f
         mov ecx, 0x48
         mov eax, [rbx + 8]
         mov edx, [rbx + 12]
         wrmsr
         51:
         test byte ptr [rbx], 2
         jz 52f
         mov ecx, 0x10b
         mov eax, 1
         xor edx, edx
         wrmsr
         52:
         test byte ptr [rbx], 4
         jz 53f
         mov eax, 1
         div al
         53:
         test byte ptr [rbx], 8
         jz 54f
         verw word ptr [rip + {selector}]
         54:
         lfence"
    };
}

/// With RBX at the `Switch`; changes RAX, RCX, RDX and flags. The return predictor is filled with
/// addresses of traps for speculation.
macro_rules! exit_work {
    () => {
        "test byte ptr [rbx + 4], 1
         jz 61f
         mov ecx, 0x49
         mov eax, 1
         xor edx, edx
         wrmsr
         61:
         test byte ptr [rbx + 4], 2
         jz 62f
         mov ecx, 0x48
         mov eax, [rbx + 16]
         mov edx, [rbx + 20]
         wrmsr
         62:
         test byte ptr [rbx + 4], 4
         jz 79f
         mov ecx, 16
         71: call 73f
         72: pause
         lfence
         jmp 72b
         73: call 75f
         74: pause
         lfence
         jmp 74b
         75: dec ecx
         jnz 71b
         add rsp, 32 * 8
         79:
         lfence"
    };
}

pub(crate) use {entry_work, exit_work};
