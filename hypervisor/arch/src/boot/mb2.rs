//! Multiboot 2 information, specification 2.0, section 3.6: a size, then tags, each aligned to 8.

use alloc::borrow::ToOwned;

use super::{BootInfo, MemoryKind, ParseError, c_text, u32_at, u64_at};

const TAG_END: u32 = 0;
const TAG_CMDLINE: u32 = 1;
const TAG_LOADER: u32 = 2;
const TAG_MODULE: u32 = 3;
const TAG_MEMORY_MAP: u32 = 6;
const TAG_RSDP_OLD: u32 = 14;
const TAG_RSDP_NEW: u32 = 15;
const TAG_EFI_MAP: u32 = 17;

/// A sane loader's block is some KiB long.
const MAX_SIZE: usize = 1 << 20;

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

    let mut efi_map = None;
    let mut at = 8;
    while let (Some(kind), Some(length)) = (u32_at(block, at), u32_at(block, at + 4)) {
        let length = length as usize;
        if kind == TAG_END {
            break;
        }
        let end = at
            .checked_add(length)
            .ok_or(ParseError::Malformed("tag length"))?;
        if length < 8 || end > block.len() {
            return Err(ParseError::Malformed("tag length"));
        }
        let tag = &block[at..end];
        match kind {
            TAG_CMDLINE => out.cmdline = c_text(&tag[8..]).to_owned(),
            TAG_LOADER => out.loader = c_text(&tag[8..]).to_owned(),
            TAG_MODULE => module(tag, out),
            TAG_MEMORY_MAP => memory_map(tag, out),
            // The newer RSDP wins, whichever comes first.
            TAG_RSDP_OLD if out.rsdp_copy.is_none() => rsdp(tag, out),
            TAG_RSDP_NEW => rsdp(tag, out),
            TAG_EFI_MAP => efi_map = Some(tag),
            _ => {}
        }
        at = end.next_multiple_of(8);
    }
    if out.memory.is_empty()
        && let Some(tag) = efi_map
    {
        efi_memory_map(tag, out);
    }
    Ok(())
}

fn module(tag: &[u8], out: &mut BootInfo) {
    if let (Some(start), Some(end)) = (u32_at(tag, 8), u32_at(tag, 12)) {
        out.add_module(start, end, c_text(tag.get(16..).unwrap_or(&[])));
    }
}

fn memory_map(tag: &[u8], out: &mut BootInfo) {
    let entry_size = u32_at(tag, 8).unwrap_or(0) as usize;
    if entry_size < 24 {
        return;
    }
    for entry in tag.get(16..).unwrap_or(&[]).chunks_exact(entry_size) {
        if let (Some(start), Some(length), Some(kind)) =
            (u64_at(entry, 0), u64_at(entry, 8), u32_at(entry, 16))
        {
            out.add_memory(start, length, MemoryKind::from_e820(kind));
        }
    }
}

/// Descriptors of GetMemoryMap: type, pad, physical start, virtual start, pages, attributes.
fn efi_memory_map(tag: &[u8], out: &mut BootInfo) {
    let entry_size = u32_at(tag, 8).unwrap_or(0) as usize;
    if entry_size < 40 {
        return;
    }
    for entry in tag.get(16..).unwrap_or(&[]).chunks_exact(entry_size) {
        if let (Some(kind), Some(start), Some(pages)) =
            (u32_at(entry, 0), u64_at(entry, 8), u64_at(entry, 24))
        {
            out.add_memory(
                start,
                pages.saturating_mul(4096),
                MemoryKind::from_efi(kind),
            );
        }
    }
}

fn rsdp(tag: &[u8], out: &mut BootInfo) {
    let body = &tag[8..];
    let body = &body[..body.len().min(36)];
    out.rsdp_copy = (body.len() >= 20).then(|| body.to_owned());
}
