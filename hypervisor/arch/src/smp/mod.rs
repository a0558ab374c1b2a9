//! The other CPUs: started one after another through a page below 1 MiB, by INIT and two SIPIs
//! (Intel SDM 3, 9.4.4).
//!
//! Each gets stacks from the caller, comes up on the entry code's tables (which have the identity
//! map that its first instructions need), loads the boot CPU's page tables of that moment, sets
//! itself up as the boot CPU did, and enters the kernel. The page is given back as it was: RAM
//! below 1 MiB is dom0's.
#![allow(unsafe_code, reason = "writes the start-up page; jumps")]

mod trampoline;
mod tsc_sync;

use crate::acpi::AcpiInfo;
use crate::apic::{self, Delivery};
use crate::boot::{BootInfo, MemoryKind};
use crate::cpu::{self, IstStacks, regs};
use crate::time::{self, TscCheck};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use oxen_types::{CpuId, CpuMask, MAX_CPUS, Maddr, PAGE_SIZE, Vaddr};

/// From the first SIPI to the CPU's first words. Generous: an emulator shares its host.
const START_TIMEOUT_NS: u64 = 5_000_000_000;
const INIT_WAIT_NS: u64 = 10_000_000;
const SIPI_WAIT_NS: u64 = 200_000;

/// Stacks of one CPU; each address is a top, 16-byte aligned.
#[derive(Clone, Copy, Debug)]
pub struct Stacks {
    /// For the hypervisor's code.
    pub main: Vaddr,
    /// For exceptions that may strike on a bad stack.
    pub ist: IstStacks,
}

static ONLINE: [AtomicU64; MAX_CPUS / 64] = [
    AtomicU64::new(1),
    AtomicU64::new(0),
    AtomicU64::new(0),
    AtomicU64::new(0),
];

/// Handed to a starting CPU; valid for one CPU at a time.
static NEXT_ID: AtomicU32 = AtomicU32::new(0);
static NEXT_ENTRY: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
static NEXT_IST: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

/// The comparison of the TSCs of all CPUs that were started so far.
pub fn tsc_check() -> &'static TscCheck {
    &tsc_sync::CHECK
}

/// The CPUs that are up.
pub fn online() -> CpuMask {
    CpuMask::from_words(core::array::from_fn(|word| {
        ONLINE[word].load(Ordering::Acquire)
    }))
}

/// Whether a CPU is up.
pub fn is_online(cpu: CpuId) -> bool {
    ONLINE
        .get(cpu.index() / 64)
        .is_some_and(|word| word.load(Ordering::Acquire) & 1 << (cpu.index() % 64) != 0)
}

/// Number of CPUs that are up.
pub fn online_count() -> usize {
    ONLINE
        .iter()
        .map(|word| word.load(Ordering::Acquire).count_ones() as usize)
        .sum()
}

/// Starts every CPU that the MADT names, at most `limit` with the boot CPU. Each runs `entry` on
/// its own main stack, interrupts off. A CPU that does not answer is left out. Returns how many are
/// up.
pub fn start_all(
    acpi: &AcpiInfo,
    info: &BootInfo,
    limit: usize,
    stacks: &mut dyn FnMut(CpuId) -> Option<Stacks>,
    entry: fn(CpuId) -> !,
) -> usize {
    let me = cpu::apic_id();
    let others = acpi.cpus.iter().filter(|found| found.apic_id != me);
    let Some(page) = trampoline_page(info) else {
        log::error!("no RAM below 1 MiB to start other CPUs from");
        return online_count();
    };
    let page = trampoline::Page::install(page);
    let mut id = 1;
    for found in others {
        if id as usize >= limit.min(MAX_CPUS) {
            break;
        }
        let Some(stacks) = stacks(CpuId(id)) else {
            log::error!("no stack for CPU{id}");
            break;
        };
        if start_one(&page, CpuId(id), found.apic_id, stacks, entry) {
            id += 1;
        } else {
            log::error!("the CPU with APIC id {:#x} does not start", found.apic_id);
            // It may still come: its number and stacks stay its own.
            id += 1;
        }
    }
    online_count()
}

fn start_one(
    page: &trampoline::Page,
    id: CpuId,
    apic_id: u32,
    stacks: Stacks,
    entry: fn(CpuId) -> !,
) -> bool {
    NEXT_ID.store(id.0, Ordering::Relaxed);
    NEXT_ENTRY.store(entry as *mut (), Ordering::Relaxed);
    for (slot, top) in NEXT_IST.iter().zip([
        stacks.ist.nmi,
        stacks.ist.double_fault,
        stacks.ist.machine_check,
    ]) {
        slot.store(top.raw(), Ordering::Relaxed);
    }
    page.set(regs::page_table_root(), stacks.main);
    apic::send_raw(apic_id, Delivery::Init);
    time::busy_wait_ns(INIT_WAIT_NS);
    for _ in 0..2 {
        apic::send_raw(apic_id, Delivery::Startup(page.number()));
        if wait_online(id, SIPI_WAIT_NS) {
            break;
        }
    }
    if !wait_online(id, START_TIMEOUT_NS) {
        return false;
    }
    tsc_sync::boot_cpu_side(id);
    true
}

fn wait_online(id: CpuId, limit_ns: u64) -> bool {
    let start = time::now_ns();
    while !is_online(id) {
        if time::now_ns().saturating_sub(start) > limit_ns {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// First Rust code of another CPU, on its main stack and the final page tables.
#[unsafe(no_mangle)]
extern "C" fn oxen_cpu_start() -> ! {
    let id = CpuId(NEXT_ID.load(Ordering::Acquire));
    let ist = |n: usize| Vaddr::new(NEXT_IST[n].load(Ordering::Relaxed));
    cpu::init_this_cpu(
        id,
        IstStacks {
            nmi: ist(0),
            double_fault: ist(1),
            machine_check: ist(2),
        },
    );
    cpu::features::enable_on_this_cpu();
    apic::init_this_cpu();
    let entry = NEXT_ENTRY.load(Ordering::Relaxed);
    // SAFETY: `start_one` stored such a function.
    let entry = unsafe { core::mem::transmute::<*mut (), fn(CpuId) -> !>(entry) };
    if let Some(word) = ONLINE.get(id.index() / 64) {
        word.fetch_or(1 << (id.index() % 64), Ordering::AcqRel);
    }
    tsc_sync::new_cpu_side();
    entry(id)
}

/// The highest page of RAM below 640 KiB that neither the loader's data nor firmware is known to
/// use: not the first (real mode's vectors, BIOS data).
fn trampoline_page(info: &BootInfo) -> Option<Maddr> {
    const LIMIT: u64 = 0x9_f000;
    let fits = |page: u64| {
        let inside = info.memory.iter().any(|range| {
            range.kind == MemoryKind::Ram
                && range.start.raw() <= page
                && range.end.raw() >= page + PAGE_SIZE as u64
        });
        let clear = !info.memory.iter().any(|range| {
            range.kind != MemoryKind::Ram
                && range.start.raw() < page + PAGE_SIZE as u64
                && range.end.raw() > page
        });
        let no_module = !info
            .modules
            .iter()
            .any(|module| module.start.raw() < page + PAGE_SIZE as u64 && module.end.raw() > page);
        inside && clear && no_module
    };
    (1..LIMIT / PAGE_SIZE as u64)
        .rev()
        .map(|number| number * PAGE_SIZE as u64)
        .find(|page| fits(*page))
        .map(Maddr::new)
}
