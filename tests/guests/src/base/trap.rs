//! Exceptions and interrupts. [`guard`] runs code that may fault, and tells how it ended; an
//! exception outside of it ends the test. Interrupts are counted, and acknowledged at the local
//! APIC.
//!
//! Exceptions have a stack of their own on each CPU, aligned to its size, with the CPU's
//! [`Recovery`] at its bottom: so the handler needs nothing but its stack pointer to find it,
//! whatever else is broken.

use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::entry;

pub const STACK: usize = 16384;

/// A CPU's stack for exceptions, and where [`guard`] goes on after one.
#[repr(C, align(16384))]
pub struct TrapStack(UnsafeCell<[u8; STACK]>);

// SAFETY: each belongs to one CPU; only that CPU's handlers and guard use it.
unsafe impl Sync for TrapStack {}

impl TrapStack {
    pub const fn new() -> Self {
        Self(UnsafeCell::new([0; STACK]))
    }

    pub fn top(&self) -> u64 {
        self.0.get() as u64 + STACK as u64
    }

    fn recovery(&self) -> *mut Recovery {
        self.0.get().cast()
    }
}

/// Where to go on, and what the last exception was. The assembly below knows this layout.
#[repr(C)]
struct Recovery {
    stack_pointer: u64,
    trap: Trap,
}

/// An exception.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Trap {
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cr2: u64,
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "exception {} error {:#x} rip {:#x} cr2 {:#x}",
            self.vector, self.error, self.rip, self.cr2
        )
    }
}

/// How often each vector's interrupt (or NMI, at 2) came.
pub static COUNTS: [AtomicU32; 256] = [const { AtomicU32::new(0) }; 256];

/// The vector for event channels' upcalls. It is no interrupt of the local APIC's: its handler does
/// not acknowledge it there, but clears the flag that keeps it coming.
pub const CALLBACK: u32 = 0xf3;

/// Where that flag is (`evtchn_upcall_pending` of the vcpu), once upcalls are in use; else 0.
pub static UPCALL: AtomicU64 = AtomicU64::new(0);

/// Not 0: interrupts are acknowledged by MSR, as in x2APIC mode. For guests with one CPU.
pub static X2APIC: AtomicU32 = AtomicU32::new(0);

/// Interrupts (or software interrupts) that came although the CPU had them off.
pub static UNWANTED: AtomicU32 = AtomicU32::new(0);

pub fn interrupts() -> u64 {
    COUNTS
        .iter()
        .map(|count| u64::from(count.load(Ordering::Relaxed)))
        .sum()
}

/// Runs something that may fault on the first CPU. What it holds is not dropped then.
pub fn guard(work: impl FnMut()) -> Result<(), Trap> {
    guard_on(0, work)
}

/// The same on the CPU of that number, which must be the running one.
pub fn guard_on<F: FnMut()>(cpu: usize, mut work: F) -> Result<(), Trap> {
    extern "C" fn call<F: FnMut()>(work: *mut F) {
        // SAFETY: `guard_on` passes its own argument, which lives until the call returns.
        unsafe { (*work)() }
    }
    let recovery = super::smp::trap_stack(cpu).recovery();
    let work = (&raw mut work).cast();
    // SAFETY: the assembly keeps the calling convention, whether the work returns or faults.
    let faulted = unsafe { guard_enter(recovery, call::<F> as *const () as u64, work) };
    if faulted == 0 {
        return Ok(());
    }
    // SAFETY: the handler wrote it before it went on here.
    Err(unsafe { (&raw const (*recovery).trap).read_volatile() })
}

/// The interrupt table of all CPUs.
#[repr(C, align(16))]
struct Table(UnsafeCell<[[u64; 2]; 256]>);

// SAFETY: written before other CPUs start.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([[0; 2]; 256]));

/// Fills the table: exceptions on their own stack, all gates to the stubs below.
pub fn prepare_table() {
    let stubs = (&raw const trap_stubs) as u64;
    for vector in 0..256u64 {
        let at = stubs + vector * 16;
        let ist = u64::from(vector < 32);
        let low = at & 0xffff | 8 << 16 | ist << 32 | 0x8e00 << 32 | (at >> 16 & 0xffff) << 48;
        // SAFETY: no other CPU runs yet, and interrupts are off.
        unsafe { (*TABLE.0.get())[vector as usize] = [low, at >> 32] };
    }
}

/// Makes this CPU use the table.
pub fn load_table() {
    let pointer = TablePointer {
        limit: 4095,
        base: TABLE.0.get() as u64,
    };
    // SAFETY: the table is filled and stays.
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer) };
}

#[repr(C, packed)]
pub struct TablePointer {
    pub limit: u16,
    pub base: u64,
}

#[unsafe(no_mangle)]
extern "C" fn trap_fatal(recovery: *const Recovery) -> ! {
    // SAFETY: the handler passes its CPU's.
    entry::unexpected(unsafe { &(*recovery).trap })
}

unsafe extern "C" {
    static trap_stubs: u8;
    fn guard_enter(recovery: *mut Recovery, call: u64, work: *mut u8) -> u64;
}

global_asm!(
    r#"
    .section .text.trap, "ax", @progbits
    .balign 16
    .global trap_stubs
trap_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30
    .else
    push 0
    .endif
    push vector
    jmp trap_common
    .set vector, vector + 1
    .endr

    # [rsp] vector, error, rip, cs, rflags, rsp, ss
trap_common:
    cmp qword ptr [rsp], 32
    jae 1f
    cmp qword ptr [rsp], 2
    je 1f
    cld
    mov rax, rsp
    and rax, -{stack}
    mov rcx, [rsp]
    mov [rax + 8], rcx
    mov rcx, [rsp + 8]
    mov [rax + 16], rcx
    mov rcx, [rsp + 16]
    mov [rax + 24], rcx
    mov rcx, cr2
    mov [rax + 32], rcx
    cmp qword ptr [rax], 0
    je 2f
    mov rsp, [rax]
    mov qword ptr [rax], 0
    pop rcx
    mov cr3, rcx
    mov eax, 1
    jmp 3f
2:  mov rdi, rax
    call trap_fatal
    ud2

1:  push rax
    mov rax, [rsp + 8]
    lock inc dword ptr [{counts} + rax * 4]
    cmp eax, 2
    je 4f
    test dword ptr [rsp + 40], 0x200
    jnz 7f
    lock inc dword ptr [{unwanted}]
7:  cmp eax, {callback}
    je 5f
6:  cmp dword ptr [{x2apic}], 0
    jne 8f
    mov eax, 0xfee000b0
    mov dword ptr [rax], 0
4:  pop rax
    add rsp, 16
    iretq
8:  push rcx
    push rdx
    mov ecx, 0x80b
    xor eax, eax
    xor edx, edx
    wrmsr
    pop rdx
    pop rcx
    jmp 4b
5:  mov rax, [{upcall}]
    test rax, rax
    jz 6b
    mov byte ptr [rax], 0
    jmp 4b

    # rdi = recovery, rsi = call, rdx = its argument
    .global guard_enter
guard_enter:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    pushfq
    push rdi
    mov rax, cr3
    push rax
    mov [rdi], rsp
    mov rdi, rdx
    call rsi
    mov rdi, [rsp + 8]
    mov qword ptr [rdi], 0
    add rsp, 8
    xor eax, eax
3:  add rsp, 8
    popfq
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
"#,
    stack = const STACK,
    counts = sym COUNTS,
    callback = const CALLBACK,
    upcall = sym UPCALL,
    x2apic = sym X2APIC,
    unwanted = sym UNWANTED,
);
