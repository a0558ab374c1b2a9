//! Multiboot 2 information, specification 2.0, section 3.6: a size, then tags, each aligned to 8.
//!
//! The crate `multiboot2` checks the block and walks its tags. Their bodies are read here, where
//! nothing that a loader writes is a panic: the memory maps' entries have the size that the loader
//! says.
#![allow(unsafe_code, reason = "the crate takes the block by its address")]

use alloc::borrow::ToOwned;

use multiboot2::{BootInformation, TagType};

use super::{BootInfo, MemoryKind, ParseError, c_text, u32_at, u64_at};

/// A sane loader's block is some KiB long.
const MAX_SIZE: usize = 1 << 20;
/// Bytes of an RSDP of the newer kind.
const RSDP: usize = 36;
/// Bytes of an RSDP of the older kind.
const OLD_RSDP: usize = 20;

/// Reads the information at `address` into `out`.
///
/// # Errors
/// `Malformed` if the information reaches out of memory, or a tag out of the information.
pub(super) fn parse<'a>(
    address: u64,
    read: &dyn Fn(u64, usize) -> Option<&'a [u8]>,
    out: &mut BootInfo,
) -> Result<(), ParseError> {
    let outside = ParseError::Malformed("information outside of memory");
    let head = read(address, 8).ok_or(outside)?;
    let size = u32_at(head, 0).ok_or(outside)? as usize;
    if !(16..=MAX_SIZE).contains(&size) {
        return Err(ParseError::Malformed("size of the information"));
    }
    let block = read(address, size).ok_or(outside)?;
    // SAFETY: the block has as many bytes as its first word says, and nothing writes to it
    // meanwhile.
    let info = unsafe { BootInformation::load(block.as_ptr().cast()) }
        .map_err(|_| ParseError::Malformed("tag length"))?;

    let mut efi_map = None;
    for tag in info.tags() {
        let body = tag.payload();
        match TagType::from(tag.header().typ) {
            TagType::Cmdline => out.cmdline = c_text(body).to_owned(),
            TagType::BootLoaderName => out.loader = c_text(body).to_owned(),
            TagType::Module => module(body, out),
            TagType::Mmap => memory_map(body, out),
            // The newer RSDP wins, whichever comes first.
            TagType::AcpiV1 if out.rsdp_copy.is_none() => rsdp(body, out),
            TagType::AcpiV2 => rsdp(body, out),
            TagType::EfiMmap => efi_map = Some(body),
            _ => {}
        }
    }
    if let Some(map) = efi_map.filter(|_| out.memory.is_empty()) {
        efi_memory_map(map, out);
    }
    Ok(())
}

fn module(body: &[u8], out: &mut BootInfo) {
    if let (Some(start), Some(end)) = (u32_at(body, 0), u32_at(body, 4)) {
        out.add_module(start, end, c_text(body.get(8..).unwrap_or(&[])));
    }
}

/// The entries of a map whose first word is their size, at least `least` bytes.
fn entries(body: &[u8], least: usize) -> impl Iterator<Item = &[u8]> {
    let size = u32_at(body, 0).unwrap_or(0) as usize;
    let map = body.get(8..).filter(|_| size >= least);
    map.unwrap_or(&[]).chunks_exact(size.max(1))
}

fn memory_map(body: &[u8], out: &mut BootInfo) {
    for entry in entries(body, 24) {
        if let (Some(start), Some(length), Some(kind)) =
            (u64_at(entry, 0), u64_at(entry, 8), u32_at(entry, 16))
        {
            out.add_memory(start, length, MemoryKind::from_e820(kind));
        }
    }
}

/// Descriptors of GetMemoryMap: type, pad, physical start, virtual start, pages, attributes.
fn efi_memory_map(body: &[u8], out: &mut BootInfo) {
    for entry in entries(body, 40) {
        if let (Some(kind), Some(start), Some(pages)) =
            (u32_at(entry, 0), u64_at(entry, 8), u64_at(entry, 24))
        {
            let length = pages.saturating_mul(4096);
            out.add_memory(start, length, MemoryKind::from_efi(kind));
        }
    }
}

fn rsdp(body: &[u8], out: &mut BootInfo) {
    let copy = body.get(..RSDP).unwrap_or(body);
    out.rsdp_copy = (copy.len() >= OLD_RSDP).then(|| copy.to_owned());
}
