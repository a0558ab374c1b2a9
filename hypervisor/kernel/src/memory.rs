//! Boot's memory steps: the map, modules moved out of dom0's way, frames, heap, final page tables.
#![allow(unsafe_code)] // the window on physical memory, the modules' bytes, CR3

use alloc::boxed::Box;

use oxen_arch::acpi::Platform;
use oxen_arch::boot::{BootInfo, MemoryKind, Module as BootModule};
use oxen_arch::{cpu, layout};
use oxen_mm::host::{Rights, Section};
use oxen_mm::memmap::{FirmwareKind, FirmwareRange};
use oxen_mm::{FrameTable, Heap, HostBuilder, HostSpace, MemoryMap, Phys};
use oxen_types::{Maddr, PAGE_SIZE, Vaddr};
use spin::Once;

use crate::dom0::{Module, Modules};

#[global_allocator]
static HEAP: Heap = Heap::new();

static FRAMES: Once<FrameTable> = Once::new();

const PAGE: u64 = PAGE_SIZE as u64;

/// What the rest of boot needs of it.
pub struct Memory {
    pub frames: &'static FrameTable,
    pub space: &'static HostSpace,
    pub modules: Modules,
}

pub fn init(info: &BootInfo, platform: &Platform) -> Memory {
    let modules = move_modules(info);
    let mut map = memory_map(info);
    for module in [modules.kernel, modules.initrd].into_iter().flatten() {
        map.reserve(module.at.raw(), module.len);
    }
    let end = map.end().raw();
    // SAFETY: the bootstrap tables map the first 4 GiB there; the tables built next map all RAM there.
    let early = unsafe {
        Phys::new(
            layout::DIRECT_MAP_BASE as usize,
            (layout::BOOT_MAPPED / PAGE).min(end),
        )
    };
    // SAFETY: as above; not used for more than `early` spans before the switch.
    let phys = unsafe { Phys::new(layout::DIRECT_MAP_BASE as usize, end) };

    let gib_pages = cpu::regs::cpuid(0x8000_0001, 0).edx & 1 << 26 != 0;
    let builder = match HostBuilder::new(early, &mut map, &sections(), gib_pages) {
        Ok(builder) => builder,
        Err(error) => panic!("the hypervisor's page tables: {error:?}"),
    };
    // SAFETY: they map all that the bootstrap tables do and we use: image, stack in it, RAM.
    unsafe { cpu::regs::set_page_table_root(builder.root()) };
    let frames = FRAMES.call_once(|| match FrameTable::new(phys, &mut map, &[]) {
        Ok(frames) => frames,
        Err(error) => panic!("the frame table: {error:?}"),
    });
    HEAP.init(frames);
    let space: &'static HostSpace = Box::leak(Box::new(HostSpace::new(builder, frames)));
    for page in platform.device_pages() {
        map_device(space, page);
    }
    for table in &platform.tables {
        if let Err(error) = space.map_firmware(table.address, table.length.into()) {
            log::warn!("ACPI table at {:?}: {error:?}", table.address);
        }
    }
    Memory {
        frames,
        space,
        modules,
    }
}

fn map_device(space: &HostSpace, page: Maddr) {
    if let Err(error) = space.map_device(page, PAGE) {
        panic!("device registers at {page:?}: {error:?}");
    }
}

fn memory_map(info: &BootInfo) -> MemoryMap {
    let mut map = MemoryMap::new(info.memory.iter().map(|range| FirmwareRange {
        start: range.start.raw(),
        len: range.end.raw() - range.start.raw(),
        kind: if range.kind == MemoryKind::Ram {
            FirmwareKind::Ram
        } else {
            FirmwareKind::Other
        },
    }));
    let (start, end) = layout::image().machine_range();
    map.reserve(start.raw(), end.raw() - start.raw());
    map
}

/// Copies the modules to the top of the low 4 GiB: where the loader left them may be where dom0's
/// kernel has to go.
fn move_modules(info: &BootInfo) -> Modules {
    let mut map = memory_map(info);
    for module in &info.modules {
        map.reserve(module.start.raw(), module.end.raw() - module.start.raw());
    }
    let mut moved = info
        .modules
        .iter()
        .take(2)
        .map(|module| move_module(&mut map, module));
    Modules {
        kernel: moved.next(),
        initrd: moved.next(),
    }
}

fn move_module(map: &mut MemoryMap, module: &BootModule) -> Module {
    let len = module.end.raw() - module.start.raw();
    let Some(to) = map.carve(len.div_ceil(PAGE), 1, layout::BOOT_MAPPED) else {
        panic!("no room for a module of {} KiB below 4 GiB", len >> 10);
    };
    let at = |addr: Maddr| layout::direct_map(addr).map_or(0, Vaddr::raw) as *mut u8;
    // SAFETY: both lie in RAM below 4 GiB, which the bootstrap tables map; the target was just carved
    // out of what nobody uses, so they do not overlap.
    unsafe {
        core::ptr::copy_nonoverlapping(at(module.start).cast_const(), at(to.base()), len as usize)
    };
    Module { at: to.base(), len }
}

/// The image as the linker laid it out.
fn sections() -> [Section; 3] {
    let image = layout::image();
    let section = |(start, end): (Vaddr, Vaddr), rights| Section {
        vaddr: start,
        maddr: Maddr::new(start.raw() - layout::IMAGE_OFFSET),
        len: (end.raw() - start.raw()).next_multiple_of(PAGE),
        rights,
    };
    [
        section(image.text, Rights::Execute),
        section(image.rodata, Rights::Read),
        section(image.data, Rights::ReadWrite),
    ]
}
