//! Multiboot 1 information, specification 0.6.96, section 3.3: flags say which fields are there.

use alloc::borrow::ToOwned;

use super::{BootInfo, MemoryKind, ParseError, c_text, u32_at, u64_at};

const HAS_MEMORY: u32 = 1 << 0;
const HAS_CMDLINE: u32 = 1 << 2;
const HAS_MODULES: u32 = 1 << 3;
const HAS_MEMORY_MAP: u32 = 1 << 6;
const HAS_LOADER: u32 = 1 << 9;

/// Bytes within which a text must end: so many, or the largest number that memory has.
const TEXT: [usize; 4] = [1 << 16, 2048, 512, 64];

/// Reads the information at `address` into `out`.
///
/// # Errors
/// `Malformed` if the information, the module table or the memory map reaches out of memory.
pub(super) fn parse<'a>(
    address: u64,
    read: &dyn Fn(u64, usize) -> Option<&'a [u8]>,
    out: &mut BootInfo,
) -> Result<(), ParseError> {
    let info = read(address, 68).ok_or(ParseError::Malformed("information outside of memory"))?;
    let field = |at| u32_at(info, at).unwrap_or(0);
    let flags = field(0);
    let text = |at: u32| {
        TEXT.into_iter()
            .find_map(|length| read(at.into(), length))
            .map_or("", c_text)
    };

    if flags & HAS_CMDLINE != 0 {
        out.cmdline = text(field(16)).to_owned();
    }
    if flags & HAS_LOADER != 0 {
        out.loader = text(field(64)).to_owned();
    }
    if flags & HAS_MODULES != 0 {
        let table = read(field(24).into(), field(20) as usize * 16)
            .ok_or(ParseError::Malformed("module table outside of memory"))?;
        for entry in table.chunks_exact(16) {
            let entry_field = |at| u32_at(entry, at).unwrap_or(0);
            let cmdline = match entry_field(8) {
                0 => "",
                at => text(at),
            };
            out.add_module(entry_field(0), entry_field(4), cmdline);
        }
    }
    if flags & HAS_MEMORY_MAP != 0 {
        let map = read(field(48).into(), field(44) as usize)
            .ok_or(ParseError::Malformed("memory map outside of memory"))?;
        memory_map(map, out);
    } else if flags & HAS_MEMORY != 0 {
        out.add_memory(0, u64::from(field(4)) << 10, MemoryKind::Ram);
        out.add_memory(1 << 20, u64::from(field(8)) << 10, MemoryKind::Ram);
    }
    Ok(())
}

/// Entries carry their size, without the size field itself, in front.
fn memory_map(map: &[u8], out: &mut BootInfo) {
    let mut at = 0;
    while let (Some(size), Some(start), Some(length), Some(kind)) = (
        u32_at(map, at),
        u64_at(map, at + 4),
        u64_at(map, at + 12),
        u32_at(map, at + 20),
    ) {
        if size < 20 {
            log::warn!(
                "boot loader: the memory map has an entry of {size} bytes: the rest is left out"
            );
            return;
        }
        out.add_memory(start, length, MemoryKind::from_e820(kind));
        at += size as usize + 4;
    }
}
