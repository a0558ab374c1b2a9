//! Boot's memory steps: the map, final page tables, modules moved out of dom0's way, frames, heap.
#![allow(
    unsafe_code,
    reason = "the window on physical memory, firmware's bytes, CR3"
)]

use alloc::vec::Vec;
use oxen_arch::image::image;
use oxen_types::layout;

use oxen_arch::boot::entry::stack_guard;
use oxen_arch::boot::{BootInfo, MemoryKind, Module};
use oxen_arch::cpu::{self, Features, features};
use oxen_mm::heap::Region;
use oxen_mm::host::{Rights, Section};
use oxen_mm::memmap::{FirmwareKind, FirmwareRange};
use oxen_mm::start::{MODULES, Span, Start};
use oxen_mm::{FrameTable, Heap, HostSpace, MemoryMap, Phys};
use oxen_types::{Maddr, Mfn, PAGE_SIZE, Vaddr};
use spin::Once;

use crate::modules::{BootModule, Modules};

#[global_allocator]
static HEAP: Heap = Heap::new(&BOOT_HEAP);
/// Where allocations come from until there are frames.
static BOOT_HEAP: Region = Region::new();

static FRAMES: Once<FrameTable> = Once::new();
static SPACE: Once<HostSpace> = Once::new();

const PAGE: u64 = PAGE_SIZE as u64;

/// The machine's memory, for the rest of boot.
pub(crate) struct Memory {
    /// All frames.
    pub frames: &'static FrameTable,
    /// The hypervisor's address space.
    pub space: &'static HostSpace,
    /// First one and number of the frames below 4 GiB that are kept from dom0.
    low: Option<(Mfn, u64)>,
}

impl Memory {
    /// Gives the frames below 4 GiB that were kept from dom0 to the allocator.
    pub(crate) fn free_low(&mut self) {
        if let Some((at, count)) = self.low.take() {
            self.frames.free_own(at, count);
        }
    }
}

/// Starts the machine's memory, in the order of `oxen_mm::start`.
pub(crate) fn init(info: &BootInfo) -> (Memory, Modules) {
    // The page tables set NX, a reserved bit on a CPU without the feature.
    if !features().contains(Features::NX) {
        panic!(
            "this CPU has no NX, or the firmware switched it off: enable execute disable in its setup"
        );
    }
    let map = memory_map(info);
    let end = map.end().raw();
    // SAFETY: the bootstrap tables map the first 4 GiB there; the tables built next map all RAM
    // there.
    let early = unsafe {
        Phys::new(
            layout::DIRECT_MAP as usize,
            (layout::BOOT_MAPPED / PAGE).min(end),
        )
    };
    // SAFETY: the tables built next map all RAM there; nothing beyond the bootstrap tables' 4 GiB
    // is reached before they are in use.
    let phys = unsafe { Phys::new(layout::DIRECT_MAP as usize, end) };
    let given: Vec<Span> = info.modules.iter().take(MODULES).map(span).collect();
    let gib_pages = features().contains(Features::PAGE_1G);
    // SAFETY: the new tables map all that is used so far: the image, the stack in it, and RAM.
    let install = |root| unsafe { cpu::regs::set_page_table_root(root) };
    let bad = bad_memory();
    // The image as a whole, with the page that is not mapped.
    let (at, end) = image().machine_range();
    let len = end.raw() - at.raw();
    let reserved: Vec<Span> = bad.into_iter().chain([Span { at, len }]).collect();
    let started = Start::new(
        (early, phys),
        map,
        &sections(),
        &reserved,
        &given,
        gib_pages,
        install,
    );
    let mut start = match started {
        Ok(start) => start,
        Err(error) => panic!("the machine's memory: {error:?}"),
    };
    let modules = modules(&mut start, phys);
    let low = start.low;
    let frames = FRAMES.call_once(|| match start.frames(phys) {
        Ok(frames) => frames,
        Err(error) => panic!("the frame table: {error:?}"),
    });
    HEAP.init(frames);
    let space = SPACE.call_once(|| HostSpace::new(start.into_builder(), frames));
    let memory = Memory { frames, space, low };
    (memory, modules)
}

/// RAM that an erratum of the processor's makes unusable.
fn bad_memory() -> Option<Span> {
    let (at, len) = oxen_virt::spec::unusable_memory()?;
    log::warn!(
        "the {} KiB at {at:?} stay unused: an erratum of this CPU",
        len >> 10
    );
    Some(Span { at, len })
}

/// dom0's kernel and initramfs, and the room that the kernel is unpacked to.
fn modules(start: &mut Start, phys: Phys) -> Modules {
    let mut moved = start.modules.clone().into_iter();
    let (kernel, initrd) = (moved.next(), moved.next());
    // SAFETY: the module's bytes, which `start` copied there; nobody changes them.
    let bytes = |span: Span| unsafe {
        core::slice::from_raw_parts(phys.pointer(span.at), span.len as usize)
    };
    let image = kernel.map(|span| oxen_unpack::Image::open(bytes(span)));
    let needed = match &image {
        Some(Ok(image)) => image.room() as u64,
        _ => 0,
    };
    let room = (needed > 0).then(|| start.carve(needed)).flatten();
    // SAFETY: RAM that `start` keeps for them: nothing else uses it.
    let module = |span| unsafe { BootModule::new(span) };
    Modules {
        kernel: kernel.map(module),
        initrd: initrd.map(module),
        room: room.map(module),
    }
}

/// Firmware's memory (ACPI tables, BIOS areas), wherever it lies in the direct map's reach.
pub(crate) fn firmware(address: u64, length: usize) -> Option<&'static [u8]> {
    let start = Maddr::new(address);
    let at = SPACE.get()?.map_firmware(start, length as u64).ok()?;
    // SAFETY: just mapped, or RAM, which is mapped; nothing changes what firmware left there.
    Some(unsafe { core::slice::from_raw_parts(at.raw() as *const u8, length) })
}

/// Maps a page of registers that the hypervisor cannot do without.
pub(crate) fn map_device(page: Maddr) {
    let Some(space) = SPACE.get() else { return };
    if let Err(error) = space.map_device(page, PAGE) {
        panic!("device registers at {page:?}: {error:?}");
    }
}

fn span(module: &Module) -> Span {
    Span {
        at: module.start,
        len: module.end.raw().saturating_sub(module.start.raw()),
    }
}

fn memory_map(info: &BootInfo) -> MemoryMap {
    MemoryMap::new(info.memory.iter().map(|range| FirmwareRange {
        start: range.start.raw(),
        len: range.end.raw() - range.start.raw(),
        kind: if range.kind == MemoryKind::Ram {
            FirmwareKind::Ram
        } else {
            FirmwareKind::Other
        },
    }))
}

/// The image as the linker laid it out, without the page below the boot stack.
fn sections() -> [Section; 4] {
    let image = image();
    let guard = stack_guard();
    let section = |(start, end): (Vaddr, Vaddr), rights| Section {
        vaddr: start,
        maddr: Maddr::new(start.raw() - layout::IMAGE_OFFSET),
        len: (end.raw() - start.raw()).next_multiple_of(PAGE),
        rights,
    };
    let (start, end) = image.data;
    [
        section(image.text, Rights::Execute),
        section(image.rodata, Rights::Read),
        section((start, guard), Rights::ReadWrite),
        section((Vaddr::new(guard.raw() + PAGE), end), Rights::ReadWrite),
    ]
}
