//! PVH boot information, version 1 (xen/arch-x86/hvm/start_info.h): the structure, the module list,
//! the memory map and the command line, in one block.

use alloc::vec::Vec;

use guest_pv_abi as abi;
use oxen_mm::dom0::MapRange;

const VERSION: u32 = 1;
const FLAGS: u32 = abi::SIF_PRIVILEGED | abi::SIF_INITDOMAIN;

const HEAD: u64 = size_of::<abi::HvmStartInfo>() as u64;
const MODULE: u64 = size_of::<abi::HvmModlistEntry>() as u64;
const ENTRY: u64 = size_of::<abi::HvmMemmapTableEntry>() as u64;

/// Bytes of a block with at most so many entries in its memory map.
pub(crate) fn len(entries: usize, cmdline: &str) -> u64 {
    HEAD + MODULE + entries as u64 * ENTRY + cmdline.len() as u64 + 1
}

/// Makes the block for the address `at`. `initrd` is an address and a length.
pub(crate) fn build(
    at: u64,
    cmdline: &str,
    initrd: Option<(u64, u64)>,
    rsdp: u64,
    map: &[MapRange],
) -> Vec<u8> {
    let modlist_paddr = at + HEAD;
    let memmap_paddr = modlist_paddr + MODULE;
    let head = abi::HvmStartInfo {
        magic: abi::XEN_HVM_START_MAGIC_VALUE,
        version: VERSION,
        flags: FLAGS,
        nr_modules: initrd.is_some().into(),
        modlist_paddr,
        cmdline_paddr: memmap_paddr + map.len() as u64 * ENTRY,
        rsdp_paddr: rsdp,
        memmap_paddr,
        memmap_entries: map.len() as u32,
        reserved: 0,
    };
    let (paddr, size) = initrd.unwrap_or_default();
    let module = abi::HvmModlistEntry {
        paddr,
        size,
        cmdline_paddr: 0,
        reserved: 0,
    };
    let mut block = Vec::from(bytemuck::bytes_of(&head));
    block.extend_from_slice(bytemuck::bytes_of(&module));
    for range in map {
        let entry = abi::HvmMemmapTableEntry {
            addr: range.start,
            size: range.len,
            kind: range.kind,
            reserved: 0,
        };
        block.extend_from_slice(bytemuck::bytes_of(&entry));
    }
    block.extend_from_slice(cmdline.as_bytes());
    block.push(0);
    block
}
