//! CPUs: their descriptor tables, and starting more of them (VCPUOP_initialise and VCPUOP_up).

use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use guest_pv_abi as abi;

use super::trap::{self, TablePointer, TrapStack};
use super::{clock, cpu, hypercall};

pub const MOST: usize = 8;
const STACK: usize = 16384;

static TRAP_STACKS: [TrapStack; MOST] = [const { TrapStack::new() }; MOST];
static TABLES: Tables = Tables(UnsafeCell::new([const { CpuTables::new() }; MOST]));
static STACKS: Stacks = Stacks(UnsafeCell::new([[0; STACK]; MOST]));

/// The work of each CPU, as a function's address.
static WORK: [AtomicUsize; MOST] = [const { AtomicUsize::new(0) }; MOST];
/// How many other CPUs are up.
static RUNNING: AtomicU32 = AtomicU32::new(0);

struct Tables(UnsafeCell<[CpuTables; MOST]>);
// SAFETY: each CPU uses its own entry only.
unsafe impl Sync for Tables {}

#[repr(C, align(4096))]
struct Stacks(UnsafeCell<[[u8; STACK]; MOST]>);
// SAFETY: each CPU uses its own entry only.
unsafe impl Sync for Stacks {}

/// A task state segment (its first interrupt stack is all that is used), and descriptors with it.
#[repr(C, align(16))]
struct CpuTables {
    gdt: [u64; 4],
    tss: [u32; 26],
}

impl CpuTables {
    const fn new() -> Self {
        Self {
            gdt: [0; 4],
            tss: [0; 26],
        }
    }
}

pub fn trap_stack(number: usize) -> &'static TrapStack {
    &TRAP_STACKS[number % MOST]
}

/// Tables of the first CPU, and those that all share.
pub fn prepare_first() {
    trap::prepare_table();
    load_tables(0);
}

/// Starts a CPU with a function, which gets its number. Fails if the domain has no such vcpu.
pub fn start(number: usize, work: fn(usize)) -> Result<(), i64> {
    assert!(number < MOST, "too many CPUs");
    // The page of the clocks is mapped before two could be first to look at it.
    let _ = clock::shared();
    WORK[number].store(work as *const () as usize, Ordering::SeqCst);
    let mut context = abi::VcpuHvmContext {
        mode: 1,
        pad: 0,
        regs: [0; 120],
    };
    let regs = abi::VcpuHvmX86_64 {
        rax: 0,
        rcx: 0,
        rdx: 0,
        rbx: 0,
        // As if called: the return address's place makes it odd by 8.
        rsp: STACKS.0.get() as u64 + (STACK * (number + 1)) as u64 - 8,
        rbp: 0,
        rsi: 0,
        rdi: number as u64,
        rip: begin as *const () as u64,
        rflags: 2,
        cr0: 0x8000_0031,
        cr3: cpu::cr3(),
        cr4: cpu::cr4(),
        efer: 0xd00,
    };
    context.regs[..112].copy_from_slice(bytemuck::bytes_of(&regs));
    for command in [abi::VCPUOP_INITIALISE, abi::VCPUOP_UP] {
        let result = hypercall::vcpu(command, number as u32, &mut context);
        if result != 0 {
            return Err(result);
        }
    }
    RUNNING.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

/// Waits until the functions of all other CPUs have returned.
pub fn join() {
    while RUNNING.load(Ordering::SeqCst) != 0 {
        hypercall::yield_now();
    }
}

extern "C" fn begin(number: usize) -> ! {
    load_tables(number);
    let work = WORK[number].load(Ordering::SeqCst);
    // SAFETY: `start` stored a function of this type.
    let work: fn(usize) = unsafe { core::mem::transmute(work) };
    work(number);
    RUNNING.fetch_sub(1, Ordering::SeqCst);
    loop {
        hypercall::vcpu(abi::VCPUOP_DOWN, number as u32, &mut 0u64);
    }
}

fn load_tables(number: usize) {
    // SAFETY: each CPU passes its own number.
    let tables = unsafe { &mut (*TABLES.0.get())[number] };
    let tss = tables.tss.as_ptr() as u64;
    let top = trap_stack(number).top();
    tables.tss[9] = top as u32;
    tables.tss[10] = (top >> 32) as u32;
    tables.tss[25] = 104 << 16;
    let low = 103 | (tss & 0xff_ffff) << 16 | 0x89 << 40 | (tss >> 24 & 0xff) << 56;
    tables.gdt = [0, 0x0020_9b00_0000_0000, low, tss >> 32];
    let pointer = TablePointer {
        limit: 31,
        base: tables.gdt.as_ptr() as u64,
    };
    // The code segment's selector too: CPUs that were started by hypercall have none to return to.
    // SAFETY: the tables stay where they are; the code segment is like the one in use.
    unsafe {
        asm!("lgdt [{0}]", "push 8", "lea {1}, [rip + 2f]", "push {1}", "retfq", "2:", "mov {1:e}, 16", "ltr {1:x}", "xor {1:e}, {1:e}", "mov ds, {1:e}", "mov es, {1:e}", "mov ss, {1:e}",
             in(reg) &raw const pointer, out(reg) _);
    }
    trap::load_table();
}
