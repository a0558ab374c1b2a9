//! Multiboot 1 information, specification 0.6.96, section 3.3: flags say which fields are there.

use super::{BootInfo, MemoryKind, ParseError, c_text, u32_at, u64_at};

const HAS_MEMORY: u32 = 1 << 0;
const HAS_CMDLINE: u32 = 1 << 2;
const HAS_MODULES: u32 = 1 << 3;
const HAS_MEMORY_MAP: u32 = 1 << 6;
const HAS_LOADER: u32 = 1 << 9;

pub(super) fn parse<'a>(
    address: u64,
    read: &impl Fn(u64, usize) -> Option<&'a [u8]>,
    out: &mut BootInfo,
) -> Result<(), ParseError> {
    let info = read(address, 68).ok_or(ParseError::Malformed("information outside of memory"))?;
    let field = |at| u32_at(info, at).unwrap_or(0);
    let flags = field(0);
    // Strings may end anywhere: read what memory there is, up to the longest we keep.
    let text = |at: u32| {
        let at = u64::from(at);
        [2048, 512, 64]
            .into_iter()
            .find_map(|length| read(at, length))
            .map_or("", c_text)
    };

    if flags & HAS_CMDLINE != 0 {
        out.set_cmdline(text(field(16)));
    }
    if flags & HAS_LOADER != 0 {
        out.set_loader(text(field(64)));
    }
    if flags & HAS_MODULES != 0 {
        let count = field(20) as usize;
        let table = read(field(24).into(), count.min(64) * 16)
            .ok_or(ParseError::Malformed("module table outside of memory"))?;
        for entry in table.chunks_exact(16) {
            let entry_field = |at| u32_at(entry, at).unwrap_or(0);
            let cmdline = if entry_field(8) == 0 {
                ""
            } else {
                text(entry_field(8))
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
            out.truncated = true;
            return;
        }
        out.add_memory(start, length, MemoryKind::from_e820(kind));
        at += size as usize + 4;
    }
}
