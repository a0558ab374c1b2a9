//! The boot loader's information, copied onto the boot heap.
//!
//! The loader's structures lie anywhere below 4 GiB and are overwritten later; each read of them is
//! bounds-checked. Multiboot 2 gives one tagged block (`mb2`), multiboot 1 a structure of pointers
//! (`mb1`). Modules stay where they are: `modules` says which frames to keep until they are used.

#[cfg(target_os = "none")]
pub mod entry;
mod info;
mod mb1;
mod mb2;
#[cfg(test)]
mod tests;

pub use info::{BootInfo, MemoryKind, MemoryRange, Module, ParseError};

/// eax at the entry, loaded by multiboot 1.
pub const MAGIC_MB1: u32 = 0x2bad_b002;
/// eax at the entry, loaded by multiboot 2.
pub const MAGIC_MB2: u32 = 0x36d7_6289;

/// The boot loader's information, from the two registers at the entry. `read(address, length)`
/// gives physical memory below 4 GiB, or `None` beyond it.
///
/// # Errors
/// `Magic` for another protocol, `Malformed` if the information contradicts itself, `NoMemoryMap`
/// if it names no RAM.
pub fn parse<'a>(
    magic: u32,
    info: u32,
    read: &dyn Fn(u64, usize) -> Option<&'a [u8]>,
) -> Result<BootInfo, ParseError> {
    let mut out = BootInfo::default();
    match magic {
        MAGIC_MB1 => mb1::parse(u64::from(info), read, &mut out),
        MAGIC_MB2 => mb2::parse(u64::from(info), read, &mut out),
        other => Err(ParseError::Magic(other)),
    }?;
    out.drop_program_names();
    out.sort_memory();
    if out.memory.is_empty() {
        Err(ParseError::NoMemoryMap)
    } else {
        Ok(out)
    }
}

/// A little-endian number at `at`, if it lies within `bytes`.
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(field.try_into().ok()?))
}

/// The text before the first NUL; what is not UTF-8 ends it too.
fn c_text(bytes: &[u8]) -> &str {
    let bytes = bytes.split(|b| *b == 0).next().unwrap_or(&[]);
    match core::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => core::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or(""),
    }
}
