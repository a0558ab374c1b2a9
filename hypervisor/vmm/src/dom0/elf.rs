//! The kernel's ELF file: its segments, and the PVH entry point in its notes
//! (public/elfnote.h: XEN_ELFNOTE_PHYS32_ENTRY).

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use guest_pv_abi as abi;
use object::LittleEndian;
use object::elf::{FileHeader64, PT_LOAD, PT_NOTE};
use object::read::elf::{FileHeader, ProgramHeader};

/// The file is no kernel that dom0 can start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ElfError {
    /// No 64-bit ELF file.
    NotElf64,
    /// Headers or segments lie beyond the file's end.
    Truncated,
    /// No note with the PVH entry.
    NoEntryNote,
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotElf64 => "not a 64-bit ELF file",
            Self::Truncated => "truncated",
            Self::NoEntryNote => "no Xen PVH entry note: built without CONFIG_PVH?",
        })
    }
}

/// A part of the file that is loaded.
pub(crate) struct Segment {
    /// The place of its bytes in the file.
    pub(crate) file: Range<usize>,
    /// Guest-physical address.
    pub(crate) address: u64,
    /// Bytes in memory: those past the file's are zero.
    pub(crate) memory_len: u64,
}

/// A kernel's headers.
pub(crate) struct Kernel {
    pub(crate) segments: Vec<Segment>,
    /// The PVH entry.
    pub(crate) entry: u32,
}

/// Reads a kernel's headers.
///
/// # Errors
/// See [`ElfError`].
pub(crate) fn parse(file: &[u8]) -> Result<Kernel, ElfError> {
    let header = FileHeader64::<LittleEndian>::parse(file).map_err(|_| ElfError::NotElf64)?;
    let endian = LittleEndian;
    let programs = header
        .program_headers(endian, file)
        .map_err(|_| ElfError::Truncated)?;
    let (mut segments, mut entry) = (Vec::new(), None);
    for program in programs {
        match program.p_type(endian) {
            PT_LOAD => {
                let start = program.p_offset(endian) as usize;
                let end = start
                    .checked_add(program.p_filesz(endian) as usize)
                    .ok_or(ElfError::Truncated)?;
                if end > file.len() || program.p_memsz(endian) < program.p_filesz(endian) {
                    return Err(ElfError::Truncated);
                }
                let address = program.p_paddr(endian);
                segments.push(Segment {
                    file: start..end,
                    address,
                    memory_len: program.p_memsz(endian),
                });
            }
            PT_NOTE => {
                let notes = program
                    .notes(endian, file)
                    .map_err(|_| ElfError::Truncated)?;
                let mut notes = notes.into_iter().flatten();
                while let Ok(Some(note)) = notes.next().transpose() {
                    if note.name() == b"Xen" && note.n_type(endian) == abi::XEN_ELFNOTE_PHYS32_ENTRY
                    {
                        entry = note
                            .desc()
                            .first_chunk()
                            .map(|bytes| u32::from_le_bytes(*bytes));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(Kernel {
        segments,
        entry: entry.ok_or(ElfError::NoEntryNote)?,
    })
}
