//! From the firmware's memory map to frames: the order in which a machine's memory starts, all of
//! it on the boot CPU.
//!
//! 1. [`MemoryMap::new`] from the firmware's map.
//! 2. [`Start::new`]: the image and the loader's modules are kept, [`LOW_FRAMES`] carved below 4
//!    GiB, and the final page tables built through the bootstrap tables, which reach 4 GiB
//!    ([`oxen_types::layout::BOOT_MAPPED`]). They alone, and the image, must lie there. The caller
//!    installs them (EFER.NXE on): from here on there is no identity mapping.
//! 3. The modules move to the top of all memory, out of the way of dom0's kernel, which wants low
//!    addresses.
//! 4. [`Start::carve`] for what else must be contiguous.
//! 5. [`Start::frames`]: the frame table. Then `Heap::init`, from which on allocations come from
//!    frames, and `HostSpace::new`.
//! 6. dom0's share is set aside ([`crate::dom0::reserve`]), and only then the low frames are given
//!    to the allocator.

use alloc::vec::Vec;

use oxen_types::{Maddr, Mfn, PAGE_SIZE};

use crate::dom0::LOW_FRAMES;
use crate::frames::{FrameTable, TooSmall};
use crate::host::{HostBuilder, HostError, Section};
use crate::memmap::MemoryMap;
use crate::phys::Phys;

const PAGE: u64 = PAGE_SIZE as u64;
const FOUR_GIB: u64 = 4 << 30;

/// Modules that are kept: dom0's kernel and its initramfs.
pub const MODULES: usize = 2;

/// Bytes of machine memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The first byte.
    pub at: Maddr,
    /// Bytes.
    pub len: u64,
}

impl Span {
    /// Frames that the bytes take up, if they begin at one.
    pub fn frames(&self) -> u64 {
        self.len.div_ceil(PAGE)
    }
}

/// Why a machine's memory could not be set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartError {
    /// The page tables.
    Tables(HostError),
    /// No range of RAM is large enough for a module of so many bytes.
    Module(u64),
}

/// Memory once the final page tables are in use.
pub struct Start {
    builder: HostBuilder,
    /// The modules at their new places.
    pub modules: Vec<Span>,
    /// Frames below 4 GiB that are free but kept from dom0: `free_own` gives them to the allocator.
    pub low: Option<(Mfn, u64)>,
    map: MemoryMap,
}

impl Start {
    /// Steps 2 and 3. `reserved` is memory besides the image that nobody may have; `early` is
    /// reached through the bootstrap tables, `phys` once `install` has put the root of the new
    /// tables into CR3.
    pub fn new(
        (early, phys): (Phys, Phys),
        mut map: MemoryMap,
        image: &[Section],
        reserved: &[Span],
        modules: &[Span],
        gib_pages: bool,
        install: impl FnOnce(Maddr),
    ) -> Result<Self, StartError> {
        let modules = &modules[..modules.len().min(MODULES)];
        for module in modules {
            map.reserve(module.at.raw(), module.len);
        }
        keep(&mut map, image, reserved);
        let low = map.carve(LOW_FRAMES, 1, FOUR_GIB);
        let builder =
            HostBuilder::new(early, &mut map, image, gib_pages).map_err(StartError::Tables)?;
        install(builder.root());
        let mut start = Self {
            builder,
            modules: Vec::new(),
            low: low.map(|at| (at, LOW_FRAMES)),
            map,
        };
        for module in modules {
            let to = start
                .carve(module.len)
                .ok_or(StartError::Module(module.len))?;
            copy(phys, to.at, *module);
            start.modules.push(to);
        }
        for module in modules {
            start.map.give_back(module.at.raw(), module.len);
        }
        keep(&mut start.map, image, reserved);
        Ok(start)
    }

    /// Contiguous RAM for good, from as high as there is.
    pub fn carve(&mut self, len: u64) -> Option<Span> {
        let at = self.map.carve(len.div_ceil(PAGE).max(1), 1, u64::MAX)?;
        Some(Span { at: at.base(), len })
    }

    /// The tables, for `HostSpace::new`.
    pub fn into_builder(self) -> HostBuilder {
        self.builder
    }

    /// Step 5.
    pub fn frames(&mut self, phys: Phys) -> Result<FrameTable, TooSmall> {
        FrameTable::new(phys, &mut self.map, &[])
    }
}

fn keep(map: &mut MemoryMap, image: &[Section], reserved: &[Span]) {
    for section in image {
        map.reserve(section.maddr.raw(), section.len);
    }
    for span in reserved {
        map.reserve(span.at.raw(), span.len);
    }
}

/// Copies a module; its new place was carved off what nobody uses, so they do not overlap.
fn copy(phys: Phys, to: Maddr, from: Span) {
    let mut done = 0;
    while done < from.len {
        let (Some(src), Some(dst)) = (from.at.checked_add(done), to.checked_add(done)) else {
            return;
        };
        let step = PAGE_SIZE - src.page_offset().max(dst.page_offset());
        let step = step.min((from.len - done) as usize);
        phys.copy(
            dst.frame(),
            dst.page_offset(),
            src.frame(),
            src.page_offset(),
            step,
        );
        done += step as u64;
    }
}
