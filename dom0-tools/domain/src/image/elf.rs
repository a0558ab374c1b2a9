//! The ELF image: which bytes lie at which physical addresses, and where a PVH guest starts.

use guest_pv_abi::XEN_ELFNOTE_PHYS32_ENTRY;
use object::elf::{FileHeader32, FileHeader64, PT_LOAD, PT_NOTE, SHT_NOTE};
use object::read::elf::{FileHeader, NoteIterator, ProgramHeader, SectionHeader};
use object::{Endianness, FileKind};

pub(super) const MAGIC: &[u8] = b"\x7fELF";

const OWNER: &[u8] = b"Xen";

/// The longest command line of Linux (COMMAND_LINE_SIZE less the NUL). An ELF image does not state
/// one.
const MAX_COMMAND_LINE: u32 = 2047;
/// Most headers of segments. Linux has five; the file may have been written by a guest, and each
/// header can name all of it.
const MOST_PROGRAMS: usize = 128;
/// Most sections that are searched for notes. A Linux kernel with all its debug information has
/// eighty.
const MOST_SECTIONS: usize = 4096;
/// Largest note table that is searched.
const MOST_NOTES: u64 = 64 << 10;

/// A kernel ready to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    image: Vec<u8>,
    pub segments: Vec<Segment>,
    /// The physical address of the first instruction.
    pub entry: u32,
    /// The longest command line that the kernel takes, in bytes and without the NUL at the end.
    pub max_command_line: u32,
}

/// A range of memory that the kernel occupies: bytes of the file, then zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    pub addr: u64,
    pub size: u64,
    file_at: usize,
    file_len: usize,
}

impl Kernel {
    /// The ELF image that the kernel was read from.
    #[must_use]
    pub fn into_image(self) -> Vec<u8> {
        self.image
    }

    /// The bytes that a segment begins with.
    #[must_use]
    pub fn bytes(&self, segment: &Segment) -> &[u8] {
        self.image
            .get(segment.file_at..segment.file_at.saturating_add(segment.file_len))
            .unwrap_or_default()
    }

    /// The lowest address in use, and the first beyond the highest.
    #[must_use]
    pub fn extent(&self) -> (u64, u64) {
        let low = self
            .segments
            .iter()
            .map(|s| s.addr)
            .min()
            .unwrap_or_default();
        let high = self
            .segments
            .iter()
            .map(|s| s.addr + s.size)
            .max()
            .unwrap_or_default();
        (low, high)
    }
}

pub(super) fn parse(image: Vec<u8>) -> Result<Kernel, String> {
    let found = match FileKind::parse(&*image) {
        Ok(FileKind::Elf64) => read::<FileHeader64<Endianness>>(&image)?,
        Ok(FileKind::Elf32) => read::<FileHeader32<Endianness>>(&image)?,
        _ => return Err("the ELF header is damaged".to_owned()),
    };
    let (segments, entry) = found;
    let inside = segments
        .iter()
        .any(|s| (s.addr..s.addr + s.size).contains(&u64::from(entry)));
    if !inside {
        return Err(format!(
            "its PVH entry {entry:#x} lies outside what is loaded"
        ));
    }
    Ok(Kernel {
        image,
        segments,
        entry,
        max_command_line: MAX_COMMAND_LINE,
    })
}

fn read<H: FileHeader<Endian = Endianness>>(image: &[u8]) -> Result<(Vec<Segment>, u32), String> {
    let damaged = |what: &str| format!("the ELF image is damaged or truncated ({what})");
    let header = H::parse(image).map_err(|_| damaged("header"))?;
    let endian = header.endian().map_err(|_| damaged("byte order"))?;
    let machine = header.e_machine(endian);
    if !endian_is_little(endian) || !matches!(machine, object::elf::EM_X86_64 | object::elf::EM_386)
    {
        return Err(format!(
            "the ELF image is for another kind of machine (type {machine})"
        ));
    }
    let programs = header
        .program_headers(endian, image)
        .map_err(|_| damaged("program headers"))?;
    if programs.len() > MOST_PROGRAMS {
        return Err(format!(
            "the ELF image has {} program headers, more than the {MOST_PROGRAMS} that are taken",
            programs.len()
        ));
    }
    let mut segments = Vec::new();
    let mut total = 0u64;
    for program in programs
        .iter()
        .filter(|program| program.p_type(endian) == PT_LOAD)
    {
        let (at, len): (u64, u64) = (
            program.p_offset(endian).into(),
            program.p_filesz(endian).into(),
        );
        let (addr, size): (u64, u64) = (
            program.p_paddr(endian).into(),
            program.p_memsz(endian).into(),
        );
        if size == 0 {
            continue;
        }
        let end = at
            .checked_add(len)
            .and_then(|end| usize::try_from(end).ok());
        if end.is_none_or(|end| end > image.len()) {
            return Err(damaged("a segment lies beyond the end of the file"));
        }
        // Entered with paging off, a kernel can only be below 4 GiB.
        if len > size || addr.checked_add(size).is_none_or(|end| end > 1 << 32) {
            return Err(damaged("a segment does not fit below 4 GiB"));
        }
        // Segments may name the same bytes again and again, and each is copied into the guest.
        total = total.saturating_add(size);
        if total > 1 << 32 {
            return Err(damaged(
                "its segments are larger than the space below 4 GiB",
            ));
        }
        let (file_at, file_len) = (at as usize, len as usize);
        segments.push(Segment {
            addr,
            size,
            file_at,
            file_len,
        });
    }
    if segments.is_empty() {
        return Err("the ELF image has nothing to load".to_owned());
    }
    let entry = entry_of::<H>(header, endian, image)?;
    Ok((segments, entry))
}

/// The note is in a segment of notes in Linux, in a section only elsewhere. A table of notes that
/// is too large is passed over, so that the work is bounded by the numbers of headers.
fn entry_of<H: FileHeader<Endian = Endianness>>(
    header: &H,
    endian: Endianness,
    image: &[u8],
) -> Result<u32, String> {
    let programs = header.program_headers(endian, image).unwrap_or_default();
    for program in programs
        .iter()
        .filter(|program| program.p_type(endian) == PT_NOTE)
        .filter(|program| program.p_filesz(endian).into() <= MOST_NOTES)
    {
        if let Ok(Some(notes)) = program.notes(endian, image)
            && let Some(entry) = find_note::<H>(notes, endian)?
        {
            return Ok(entry);
        }
    }
    if let Ok(sections) = header.section_headers(endian, image) {
        for section in sections
            .iter()
            .take(MOST_SECTIONS)
            .filter(|section| section.sh_type(endian) == SHT_NOTE)
            .filter(|section| section.sh_size(endian).into() <= MOST_NOTES)
        {
            if let Ok(Some(notes)) = section.notes(endian, image)
                && let Some(entry) = find_note::<H>(notes, endian)?
            {
                return Ok(entry);
            }
        }
    }
    Err("the kernel has no Xen note with a PVH entry (XEN_ELFNOTE_PHYS32_ENTRY)".to_owned())
}

fn find_note<H: FileHeader<Endian = Endianness>>(
    mut notes: NoteIterator<'_, H>,
    endian: Endianness,
) -> Result<Option<u32>, String> {
    while let Ok(Some(note)) = notes.next() {
        if note.name() != OWNER || note.n_type(endian) != XEN_ELFNOTE_PHYS32_ENTRY {
            continue;
        }
        // Linux writes eight bytes, others four.
        let value = match note.desc() {
            desc if desc.len() == 4 => desc.try_into().map(u32::from_le_bytes).ok(),
            desc if desc.len() == 8 => desc
                .try_into()
                .map(u64::from_le_bytes)
                .ok()
                .and_then(|v| v.try_into().ok()),
            _ => None,
        };
        return match value {
            Some(entry) => Ok(Some(entry)),
            None => Err("the kernel's note of its PVH entry is damaged".to_owned()),
        };
    }
    Ok(None)
}

fn endian_is_little(endian: Endianness) -> bool {
    endian == Endianness::Little
}
