//! PVH boot information, version 1 (xen/arch-x86/hvm/start_info.h): the structure, the module list,
//! the memory map and the command line, in one block.

use alloc::vec::Vec;

use super::MapRange;

const MAGIC: u32 = 0x336e_c578;
const VERSION: u32 = 1;
/// SIF_PRIVILEGED | SIF_INITDOMAIN.
const FLAGS: u32 = 1 | 2;

const HEAD: u64 = 56;
const MODULE: u64 = 32;
const ENTRY: u64 = 24;

/// Room for a block with at most so many entries in its memory map.
pub fn len(entries: usize, cmdline: &str) -> u64 {
    HEAD + MODULE + entries as u64 * ENTRY + cmdline.len() as u64 + 1
}

pub fn build(
    at: u64,
    cmdline: &str,
    initrd: Option<(u64, u64)>,
    rsdp: u64,
    map: &[MapRange],
) -> Vec<u8> {
    let modules = at + HEAD;
    let entries = modules + MODULE;
    let text = entries + map.len() as u64 * ENTRY;
    let mut block = Vec::new();
    for word in [MAGIC, VERSION, FLAGS, u32::from(initrd.is_some())] {
        block.extend_from_slice(&word.to_le_bytes());
    }
    for word in [modules, text, rsdp, entries] {
        block.extend_from_slice(&word.to_le_bytes());
    }
    block.extend_from_slice(&(map.len() as u32).to_le_bytes());
    block.extend_from_slice(&0u32.to_le_bytes());
    let (addr, len) = initrd.unwrap_or_default();
    for word in [addr, len, 0, 0] {
        block.extend_from_slice(&word.to_le_bytes());
    }
    for range in map {
        block.extend_from_slice(&range.start.to_le_bytes());
        block.extend_from_slice(&range.len.to_le_bytes());
        block.extend_from_slice(&range.kind.to_le_bytes());
        block.extend_from_slice(&0u32.to_le_bytes());
    }
    block.extend_from_slice(cmdline.as_bytes());
    block.push(0);
    block
}
