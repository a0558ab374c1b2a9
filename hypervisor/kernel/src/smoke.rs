//! Until the scheduler is wired in: bring up the machine, let every CPU's timer tick, and idle.
#![allow(unsafe_code)] // the entry symbol, and stacks out of the image

use core::sync::atomic::{AtomicU64, Ordering};
use oxen_arch::boot::BootInfo;
use oxen_arch::cpu::{self, IstStacks, MAX_CPUS};
use oxen_arch::ipi::{self, CpuMask};
use oxen_arch::{irq, smp, time, vectors};
use oxen_types::{CpuId, Vaddr};

oxen_arch::main!(main);

const CPUS: usize = 8;
const STACK: usize = 32 << 10;
const IST: usize = 8 << 10;
const TICK_NS: u64 = 100_000_000;

#[repr(align(4096))]
struct StackSpace(core::cell::UnsafeCell<[u8; CPUS * (STACK + 3 * IST)]>);
// SAFETY: each CPU touches its own part only.
unsafe impl Sync for StackSpace {}
static STACKS: StackSpace = StackSpace(core::cell::UnsafeCell::new([0; CPUS * (STACK + 3 * IST)]));

static TICKS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
static CALLS: AtomicU64 = AtomicU64::new(0);

fn main(info: &'static BootInfo) -> ! {
    let platform = oxen_arch::init(info);
    irq::set_handler(vectors::TIMER, tick);
    let count = smp::start_all(platform, info, CPUS, &mut stacks, run);
    log::info!("{count} CPUs up");
    run(CpuId(0))
}

fn stacks(cpu: CpuId) -> Option<smp::Stacks> {
    let size = (STACK + 3 * IST) as u64;
    let base = STACKS.0.get() as u64 + u64::from(cpu.0) * size;
    let top = |bytes: usize| Vaddr::new(base + bytes as u64);
    Some(smp::Stacks {
        main: top(STACK),
        ist: IstStacks {
            nmi: top(STACK + IST),
            double_fault: top(STACK + 2 * IST),
            machine_check: top(STACK + 3 * IST),
        },
    })
}

fn tick(_: u8) {
    TICKS[cpu::cpu_id().index()].fetch_add(1, Ordering::Relaxed);
    oxen_arch::apic::arm_timer(time::now_ns() + TICK_NS);
}

fn run(me: CpuId) -> ! {
    log::info!("CPU{me} (APIC {}) is up", cpu::apic_id());
    tick(0);
    let mut reported = false;
    loop {
        irq::idle();
        if me == CpuId(0) && !reported && time::now_ns() > 2_000_000_000 {
            reported = true;
            report();
        }
        while let Some(byte) = oxen_arch::console::read_byte() {
            match byte {
                b'p' => panic!("asked for"),
                b'f' => fault(),
                b'm' => survive(),
                b'R' => oxen_arch::power::reboot(),
                b'O' => oxen_arch::power::power_off(),
                _ => log::info!("key {byte:#x} on CPU{me}"),
            }
        }
    }
}

fn report() {
    let mut mask = CpuMask::EMPTY;
    smp::online().iter().for_each(|cpu| mask.add(cpu));
    let result = ipi::call(
        mask,
        |_| {
            CALLS.fetch_add(1, Ordering::Relaxed);
        },
        0,
    );
    log::info!(
        "call on all CPUs: {result:?}, {} answers",
        CALLS.load(Ordering::Relaxed)
    );
    for cpu in smp::online().iter() {
        log::info!(
            "CPU{cpu}: {} ticks",
            TICKS[cpu.index()].load(Ordering::Relaxed)
        );
    }
}

/// A fault that nothing repairs: shows registers and a backtrace.
fn fault() {
    // SAFETY: none; nothing is mapped there, so the machine reports and ends.
    unsafe { (0xffff_8200_0000_1000 as *mut u64).write_volatile(1) }
}

/// Faults that the fixup table repairs.
fn survive() {
    let absent = cpu::msr::rdmsr_safe(0x1234_5678);
    let device = oxen_arch::mmio::read(oxen_types::Maddr::new(1 << 40), 4);
    log::info!("absent MSR: {absent:?}, absent device: {device:#x}");
}
