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

    /// Loaders other than GRUB 2 put the file's name before every command line, as multiboot 1 has
    /// it; with GRUB 2 users keep that place with the word "placeholder". Xen has the same rule.
    pub(super) fn drop_program_names(&mut self) {
        let is_grub2 = self.loader.starts_with("GRUB ") && !self.loader.starts_with("GRUB 0");
        let lines = core::iter::once(&mut self.cmdline as &mut dyn FirstWord).chain(
            self.modules
                .iter_mut()
                .map(|module| &mut module.cmdline as _),
        );
        for line in lines {
            if !is_grub2 || line.first_word() == "placeholder" {
                line.drop_first_word();
            }
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

trait FirstWord {
    fn first_word(&self) -> &str;
    fn drop_first_word(&mut self);
}

impl<const N: usize> FirstWord for ArrayString<N> {
    fn first_word(&self) -> &str {
        self.split_ascii_whitespace().next().unwrap_or("")
    }

    fn drop_first_word(&mut self) {
        *self = match self.trim_start().split_once(' ') {
            Some((_, rest)) => Self::from(rest.trim_start()).unwrap_or_default(),
            None => Self::new_const(),
        };
    }
}
