//! The owned form of the boot information.

use arrayvec::{ArrayString, ArrayVec};
use core::fmt;
use oxen_types::Maddr;

/// E820 types; firmware's other types count as reserved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum MemoryKind {
    Ram = 1,
    Reserved = 2,
    AcpiReclaim = 3,
    AcpiNvs = 4,
    Unusable = 5,
}

impl MemoryKind {
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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryRange {
    pub start: Maddr,
    /// First byte after the range.
    pub end: Maddr,
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

#[derive(Clone, Debug)]
pub struct Module {
    pub start: Maddr,
    pub end: Maddr,
    /// Without the file's name, where the loader is known to put it first.
    pub cmdline: ArrayString<1024>,
}

#[derive(Default, Debug)]
pub struct BootInfo {
    pub cmdline: ArrayString<2048>,
    pub loader: ArrayString<64>,
    pub modules: ArrayVec<Module, 16>,
    /// Sorted by start. Ranges may overlap if the firmware's do.
    pub memory: ArrayVec<MemoryRange, 256>,
    /// A copy of the RSDP that the loader handed over, with its revision-independent length.
    pub rsdp_copy: Option<ArrayVec<u8, 64>>,
    pub efi_system_table: Option<u64>,
    /// Something did not fit or made no sense, and was left out.
    pub truncated: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParseError {
    /// Not loaded by multiboot 1 or 2; the value of eax.
    Magic(u32),
    /// The loader's structure reaches out of memory or contradicts itself.
    Malformed(&'static str),
    NoMemoryMap,
}

impl BootInfo {
    pub const fn new() -> Self {
        Self {
            cmdline: ArrayString::new_const(),
            loader: ArrayString::new_const(),
            modules: ArrayVec::new_const(),
            memory: ArrayVec::new_const(),
            rsdp_copy: None,
            efi_system_table: None,
            truncated: false,
        }
    }

    pub(super) fn add_memory(&mut self, start: u64, length: u64, kind: MemoryKind) {
        let end = start.saturating_add(length);
        if end <= start {
            return;
        }
        let range = MemoryRange {
            start: Maddr::new(start),
            end: Maddr::new(end),
            kind,
        };
        if self.memory.try_push(range).is_err() {
            self.truncated = true;
        }
    }

    pub(super) fn add_module(&mut self, start: u32, end: u32, text: &str) {
        if end < start {
            self.truncated = true;
            return;
        }
        let mut cmdline = ArrayString::new_const();
        self.truncated |= !fill(&mut cmdline, text);
        let module = Module {
            start: Maddr::new(start.into()),
            end: Maddr::new(end.into()),
            cmdline,
        };
        if self.modules.try_push(module).is_err() {
            self.truncated = true;
        }
    }

    pub(super) fn set_cmdline(&mut self, text: &str) {
        self.truncated |= !fill(&mut self.cmdline, text);
    }

    pub(super) fn set_loader(&mut self, text: &str) {
        fill(&mut self.loader, text);
    }

    /// QEMU's own loader puts the file's name before every command line, GRUB does not.
    pub(super) fn drop_program_names(&mut self) {
        if !self.loader.starts_with("qemu") {
            return;
        }
        drop_first_word(&mut self.cmdline);
        for module in &mut self.modules {
            drop_first_word(&mut module.cmdline);
        }
    }

    pub(super) fn sort_memory(&mut self) {
        self.memory
            .sort_unstable_by_key(|range| (range.start, range.end));
    }
}

/// Puts as much of `text` as fits into `out`; true if all did.
fn fill<const N: usize>(out: &mut ArrayString<N>, text: &str) -> bool {
    out.clear();
    for c in text.chars() {
        if out.try_push(c).is_err() {
            return false;
        }
    }
    true
}

fn drop_first_word<const N: usize>(text: &mut ArrayString<N>) {
    let rest = match text.trim_start().split_once(' ') {
        Some((_, rest)) => ArrayString::from(rest.trim_start()).unwrap_or_default(),
        None => ArrayString::new_const(),
    };
    *text = rest;
}
