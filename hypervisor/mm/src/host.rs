//! The hypervisor's own address space (see [`layout`]): the image with W^X, RAM in the direct map,
//! devices on request, stacks between guard pages. Nothing is mapped below [`layout::START`].
//!
//! Entries are only ever added after the switch, so no TLB flush is owed. The image's code and
//! constants are read-only in the direct map too.

use oxen_types::{DomainId, Maddr, Mfn, PAGE_SIZE, Vaddr, layout};
use spin::Mutex;

use crate::frames::{AllocOptions, FrameTable};
use crate::memmap::{BootPool, MemoryMap};
use crate::phys::{Phys, Table};
use crate::pt::{Attrs, Host, Leaf, MapError, PageTable, TableAccess, TablePool, Walk};

const PAGE: u64 = PAGE_SIZE as u64;

const DATA: Attrs = Attrs {
    write: true,
    exec: false,
    cached: true,
    fixed: false,
    tag: 0,
};
const CODE: Attrs = Attrs {
    write: false,
    exec: true,
    cached: true,
    fixed: false,
    tag: 0,
};
const CONSTANT: Attrs = Attrs {
    write: false,
    exec: false,
    cached: true,
    fixed: false,
    tag: 0,
};
const DEVICE: Attrs = Attrs {
    write: true,
    exec: false,
    cached: false,
    fixed: false,
    tag: 0,
};

/// The rights of a part of the image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rights {
    /// Read and execute.
    Execute,
    /// Read.
    Read,
    /// Read and write.
    ReadWrite,
}

/// A part of the image; all three numbers are multiples of the page size.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Where the part is linked.
    pub vaddr: Vaddr,
    /// Where the part lies.
    pub maddr: Maddr,
    /// Bytes.
    pub len: u64,
    /// The rights of its pages.
    pub rights: Rights,
}

/// Why the hypervisor's own tables could not be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostError {
    /// There was no frame for a table or a stack.
    NoMemory,
    /// Ranges that overlap, or that the layout has no room for.
    BadRange,
}

impl From<MapError> for HostError {
    fn from(error: MapError) -> Self {
        match error {
            MapError::NoMemory => Self::NoMemory,
            MapError::Occupied => Self::BadRange,
        }
    }
}

fn page_of(vaddr: u64) -> u64 {
    vaddr >> 12 & ((1 << 36) - 1)
}

/// The tables while only boot memory can be had for them.
pub struct HostBuilder {
    tables: PageTable<Host>,
    max_level: u32,
}

impl HostBuilder {
    /// Maps the image and all RAM, through the bootstrap direct map (`phys`). `gib_pages`: the CPU
    /// has 1 GiB pages.
    pub fn new(
        phys: Phys,
        map: &mut MemoryMap,
        image: &[Section],
        gib_pages: bool,
    ) -> Result<Self, HostError> {
        let ram = map.ram().clone();
        let pool = &mut BootPool { map, phys };
        let builder = Self {
            tables: PageTable::new(pool).ok_or(HostError::NoMemory)?,
            max_level: if gib_pages { 3 } else { 2 },
        };
        for section in image {
            builder.map_section(pool, section)?;
        }
        for (start, end) in ram.iter() {
            builder.map_ram(pool, image, start, end)?;
        }
        Ok(builder)
    }

    /// For CR3. Needs EFER.NXE.
    pub fn root(&self) -> Maddr {
        self.tables.root()
    }

    fn map_section(&self, pool: &mut BootPool, section: &Section) -> Result<(), HostError> {
        let attrs = match section.rights {
            Rights::Execute => CODE,
            Rights::Read => CONSTANT,
            Rights::ReadWrite => DATA,
        };
        let (start, len) = (section.vaddr.raw(), section.len);
        let end = start.checked_add(len).ok_or(HostError::BadRange)?;
        let aligned = (start | len | section.maddr.raw()).is_multiple_of(PAGE);
        if !aligned || start < layout::IMAGE || end > layout::IMAGE_END {
            return Err(HostError::BadRange);
        }
        let (page, mfn) = (page_of(start), section.maddr.frame());
        Ok(self
            .tables
            .map_range(pool, page, mfn, len / PAGE, attrs, 2)?)
    }

    /// Maps a range of RAM, cut where a section of the image begins or ends.
    fn map_ram(
        &self,
        pool: &mut BootPool,
        image: &[Section],
        start: u64,
        end: u64,
    ) -> Result<(), HostError> {
        let mut at = start;
        while at < end {
            let bounds = image.iter().flat_map(|s| {
                let first = s.maddr.frame().raw();
                [first, first + s.len / PAGE]
            });
            let stop = bounds.filter(|&b| b > at).fold(end, u64::min);
            let inside = |s: &&Section| {
                let first = s.maddr.frame().raw();
                (first..first + s.len / PAGE).contains(&at)
            };
            let attrs = match image.iter().find(inside).map(|s| s.rights) {
                Some(Rights::Execute | Rights::Read) => CONSTANT,
                Some(Rights::ReadWrite) | None => DATA,
            };
            let page = page_of(layout::DIRECT_MAP) + at;
            self.tables
                .map_range(pool, page, Mfn::new(at), stop - at, attrs, self.max_level)?;
            at = stop;
        }
        Ok(())
    }
}

/// The hypervisor's address space, once there is a frame table.
pub struct HostSpace {
    frames: &'static FrameTable,
    inner: Mutex<Inner>,
}

struct Inner {
    tables: PageTable<Host>,
    next_stack: u64,
}

impl Inner {
    /// Maps a page of 2 MiB where that fits and nothing smaller is there, else of 4 KiB. Returns
    /// its frames.
    fn map_largest(
        &self,
        pool: &mut OwnPool,
        page: u64,
        mfn: u64,
        count: u64,
        attrs: Attrs,
    ) -> Result<u64, MapError> {
        const LARGE: u64 = 512;
        if mfn.is_multiple_of(LARGE) && count >= LARGE {
            match self.tables.map(pool, page, Mfn::new(mfn), 2, attrs) {
                Err(MapError::Occupied) => {}
                result => return result.map(|()| LARGE),
            }
        }
        let result = self.tables.map(pool, page, Mfn::new(mfn), 1, attrs);
        result.map(|()| 1)
    }
}

/// A stack that is mapped, with the page below it and the one above it absent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stack {
    /// The lowest address.
    pub bottom: Vaddr,
    /// The first address above: where the stack pointer starts.
    pub top: Vaddr,
}

/// Table pages once there is a frame table. They may lie anywhere: a CPU that starts runs on the
/// entry code's tables until it is in 64-bit mode, where CR3 takes any address.
struct OwnPool(&'static FrameTable);

impl TableAccess for OwnPool {
    fn table(&self, mfn: Mfn) -> &'static Table {
        self.0.phys().table(mfn)
    }
}

impl TablePool for OwnPool {
    fn alloc(&mut self) -> Option<Mfn> {
        let options = AllocOptions {
            zeroed: true,
            ..AllocOptions::default()
        };
        self.0.alloc_own(0, DomainId::XEN, options)
    }
    fn free(&mut self, table: Mfn) {
        self.0.free_own(table, 1);
    }
}

impl HostSpace {
    /// Takes over the tables that boot made.
    pub fn new(builder: HostBuilder, frames: &'static FrameTable) -> Self {
        let inner = Inner {
            tables: builder.tables,
            next_stack: layout::STACKS,
        };
        Self {
            frames,
            inner: Mutex::new(inner),
        }
    }

    /// The root table, for CR3.
    pub fn root(&self) -> Maddr {
        self.inner.lock().tables.root()
    }

    /// Maps device registers, uncached, at their place in the direct map; again is no error.
    pub fn map_device(&self, at: Maddr, len: u64) -> Result<Vaddr, HostError> {
        self.map_direct(at, len, DEVICE)
    }

    /// Maps firmware tables (ACPI, SMBIOS), read-only and cached, at their place in the direct map.
    /// What is RAM is mapped already, and stays as it is.
    pub fn map_firmware(&self, at: Maddr, len: u64) -> Result<Vaddr, HostError> {
        self.map_direct(at, len, CONSTANT)
    }

    fn map_direct(&self, at: Maddr, len: u64, attrs: Attrs) -> Result<Vaddr, HostError> {
        let last = at
            .raw()
            .checked_add(len.max(1) - 1)
            .ok_or(HostError::BadRange)?;
        if last >= layout::DIRECT_MAP_LEN {
            return Err(HostError::BadRange);
        }
        let inner = self.inner.lock();
        let pool = &mut OwnPool(self.frames);
        let (mut mfn, end) = (at.raw() / PAGE, last / PAGE + 1);
        while mfn < end {
            let page = page_of(layout::DIRECT_MAP) + mfn;
            match inner.tables.walk(pool, page) {
                Walk::Absent { .. } => {
                    mfn += inner.map_largest(pool, page, mfn, end - mfn, attrs)?;
                    continue;
                }
                // RAM is not a device's; other than that, what is there will do.
                Walk::Leaf(Leaf { attrs: old, .. }) if !attrs.cached && old.cached => {
                    return Err(HostError::BadRange);
                }
                Walk::Leaf(_) => {}
            }
            mfn += 1;
        }
        Ok(Vaddr::new(layout::DIRECT_MAP + at.raw()))
    }

    /// A zeroed stack for good. Its frames are not contiguous: nothing on it is for devices.
    pub fn alloc_stack(&self, pages: u64) -> Result<Stack, HostError> {
        let mut inner = self.inner.lock();
        let bottom = inner.next_stack + PAGE;
        let top = bottom + pages * PAGE;
        if top + PAGE > layout::STACKS_END {
            return Err(HostError::NoMemory);
        }
        // Also after an error: a half-made stack's addresses are not used again.
        inner.next_stack = top;
        let zeroed = AllocOptions {
            zeroed: true,
            ..AllocOptions::default()
        };
        for n in 0..pages {
            let mfn = self
                .frames
                .alloc_own(0, DomainId::XEN, zeroed)
                .ok_or(HostError::NoMemory)?;
            let page = page_of(bottom) + n;
            inner
                .tables
                .map(&mut OwnPool(self.frames), page, mfn, 1, DATA)?;
        }
        Ok(Stack {
            bottom: Vaddr::new(bottom),
            top: Vaddr::new(top),
        })
    }

    /// The leaf that maps a linear address of the hypervisor; `None` if nothing does.
    pub fn translate(&self, at: Vaddr) -> Option<Leaf> {
        match self
            .inner
            .lock()
            .tables
            .walk(&self.frames.phys(), page_of(at.raw()))
        {
            Walk::Leaf(leaf) => Some(leaf),
            Walk::Absent { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
