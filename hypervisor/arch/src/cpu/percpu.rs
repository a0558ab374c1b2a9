//! The area of each CPU, reached through GS. GS holds this base all the time while the hypervisor
//! runs: guests' GS bases are switched with VMLOAD/VMSAVE or by the VMCS, never seen by our code.
#![allow(
    unsafe_code,
    reason = "GS-relative loads, and one static area for each CPU"
)]

use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::null;
use core::sync::atomic::{AtomicU32, Ordering};
use oxen_types::{CpuId, MAX_CPUS};
use x86_64::VirtAddr;
use x86_64::registers::model_specific::GsBase;
use x86_64::structures::gdt::GlobalDescriptorTable;
use x86_64::structures::tss::TaskStateSegment;

/// Descriptor tables of one CPU. They are not initialised in the image, so that 256 of them take no
/// room there.
pub(super) struct Tables {
    pub(super) gdt: GlobalDescriptorTable,
    pub(super) tss: TaskStateSegment,
}

/// One CPU's area. Assembly reads the first two fields at fixed offsets.
#[repr(C, align(64))]
pub struct PerCpu {
    this: UnsafeCell<*const PerCpu>,
    id: AtomicU32,
    apic_id: AtomicU32,
    pub(super) tables: UnsafeCell<MaybeUninit<Tables>>,
}

// SAFETY: the cells are written by their own CPU only, while it is being set up.
unsafe impl Sync for PerCpu {}

static AREAS: [PerCpu; MAX_CPUS] = [const { PerCpu::new() }; MAX_CPUS];

impl PerCpu {
    const fn new() -> Self {
        Self {
            this: UnsafeCell::new(null()),
            id: AtomicU32::new(0),
            apic_id: AtomicU32::new(0),
            tables: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// This CPU's area.
    pub fn this() -> &'static Self {
        let area: *const PerCpu;
        // SAFETY: GS points at this CPU's area from `init` on, whose first field is its address.
        unsafe {
            asm!("mov {}, gs:[0]", out(reg) area, options(nostack, preserves_flags, readonly));
            &*area
        }
    }
}

impl PerCpu {
    /// This CPU's tables, as `init` made them.
    pub(super) fn tables(&self) -> *mut Tables {
        self.tables.get().cast()
    }
}

/// Points GS at the area of `id`.
pub(super) fn init(id: CpuId) {
    let area = &AREAS[id.index()];
    area.id.store(id.0, Ordering::Relaxed);
    // SAFETY: this CPU is the only one that uses this area, and just begins to.
    unsafe {
        *area.this.get() = area;
        (*area.tables.get()).write(Tables {
            gdt: GlobalDescriptorTable::new(),
            tss: TaskStateSegment::new(),
        });
    }
    GsBase::write(VirtAddr::from_ptr(area));
}

/// The CPU that runs this code.
pub fn cpu_id() -> CpuId {
    let id: u32;
    // SAFETY: offset 8 of the area is its id, never written after `init`.
    unsafe {
        asm!("mov {:e}, gs:[8]", out(reg) id, options(nostack, preserves_flags, readonly));
    }
    CpuId(id)
}

/// This CPU's local APIC id.
pub fn apic_id() -> u32 {
    PerCpu::this().apic_id.load(Ordering::Relaxed)
}

/// The APIC id of any CPU that is up.
pub fn apic_id_of(cpu: CpuId) -> Option<u32> {
    AREAS
        .get(cpu.index())
        .map(|area| area.apic_id.load(Ordering::Relaxed))
}

pub(crate) fn set_apic_id(cpu: CpuId, id: u32) {
    AREAS[cpu.index()].apic_id.store(id, Ordering::Relaxed);
}
