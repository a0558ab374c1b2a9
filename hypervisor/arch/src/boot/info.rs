//! The owned form of the boot information, on the boot heap.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use oxen_types::Maddr;

/// E820 types; firmware's other types count as reserved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum MemoryKind {
    /// Free to use.
    Ram = 1,
    /// Firmware's or a device's.
    Reserved = 2,
    /// ACPI tables: RAM once they have been read.
    AcpiReclaim = 3,
    /// ACPI's own memory, which firmware uses at run time.
    AcpiNvs = 4,
    /// Broken RAM.
    Unusable = 5,
}

impl MemoryKind {
    /// The kind of an E820 entry.
    pub const fn from_e820(kind: u32) -> Self {
        match kind {
            1 => Self::Ram,
            3 => Self::AcpiReclaim,
            4 => Self::AcpiNvs,
            5 => Self::Unusable,
            _ => Self::Reserved,
        }
    }

    /// UEFI 2.10, table 7.10 (memory types) as the operating system may use them after
    /// ExitBootServices.
    pub const fn from_efi(kind: u32) -> Self {
        match kind {
            1..=4 | 7 => Self::Ram,
            8 => Self::Unusable,
            9 => Self::AcpiReclaim,
            10 => Self::AcpiNvs,
            _ => Self::Reserved,
        }
    }
}

/// One range of the firmware's memory map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryRange {
    /// First byte of the range.
    pub start: Maddr,
    /// First byte after the range.
    pub end: Maddr,
    /// The firmware's word for the range.
    pub kind: MemoryKind,
}

impl fmt::Display for MemoryRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:#014x}..{:#014x} {:?}",
            self.start.raw(),
            self.end.raw(),
            self.kind
        )
    }
}

/// A file that the boot loader put into memory.
#[derive(Clone, Debug)]
pub struct Module {
    /// First byte of the file.
    pub start: Maddr,
    /// First byte after the file.
    pub end: Maddr,
    /// Without the file's name, where the loader is known to put it first.
    pub cmdline: String,
}

/// Everything that the boot loader tells, whatever its length.
#[derive(Default, Debug)]
pub struct BootInfo {
    /// The hypervisor's command line.
    pub cmdline: String,
    /// The loader's name and version.
    pub loader: String,
    /// In the loader's order: dom0's kernel, then its initramfs.
    pub modules: Vec<Module>,
    /// Sorted by start. Ranges may overlap if the firmware's do.
    pub memory: Vec<MemoryRange>,
    /// A copy of the RSDP that the loader handed over, with its revision-independent length.
    pub rsdp_copy: Option<Vec<u8>>,
}

/// The boot loader's information is of no use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParseError {
    /// Not loaded by multiboot 1 or 2; the value of eax.
    Magic(u32),
    /// The loader's structure reaches out of memory or contradicts itself.
    Malformed(&'static str),
    /// No RAM is named.
    NoMemoryMap,
}

impl BootInfo {
    /// Adds a range to the memory map; an empty one is left out.
    pub(super) fn add_memory(&mut self, start: u64, length: u64, kind: MemoryKind) {
        let end = start.saturating_add(length);
        if end > start {
            self.memory.push(MemoryRange {
                start: Maddr::new(start),
                end: Maddr::new(end),
                kind,
            });
        }
    }

    /// Adds a module, or leaves it out with a warning if it ends before it begins.
    pub(super) fn add_module(&mut self, start: u32, end: u32, cmdline: &str) {
        if end < start {
            log::warn!("boot loader: the module {start:#x}..{end:#x} ({cmdline}) is left out");
            return;
        }
        self.modules.push(Module {
            start: Maddr::new(start.into()),
            end: Maddr::new(end.into()),
            cmdline: cmdline.to_owned(),
        });
    }

    /// Loaders other than GRUB 2 put the file's name before every command line, as multiboot 1 has
    /// it; with GRUB 2 users keep that place with the word "placeholder". Xen has the same rule.
    pub(super) fn drop_program_names(&mut self) {
        let is_grub2 = self.loader.starts_with("GRUB ") && !self.loader.starts_with("GRUB 0");
        let modules = self.modules.iter_mut().map(|module| &mut module.cmdline);
        for line in modules.chain([&mut self.cmdline]) {
            let first = line.split_ascii_whitespace().next();
            if !is_grub2 || first == Some("placeholder") {
                let rest = line.trim_start().split_once(' ');
                *line = rest.map_or("", |(_, rest)| rest.trim_start()).to_owned();
            }
        }
    }

    pub(super) fn sort_memory(&mut self) {
        self.memory
            .sort_unstable_by_key(|range| (range.start, range.end));
    }
}
