//! The boot information of PVH (xen/arch-x86/hvm/start_info.h), version 1: one block with the
//! structure, the list of modules, the memory map and the command line.

use crate::layout::Placement;
use guest_pv_abi as abi;
use oxen_sys::hypercall::E820Entry;

const VERSION: u32 = 1;
const HEAD: u64 = size_of::<abi::HvmStartInfo>() as u64;
const MODULE: u64 = size_of::<abi::HvmModlistEntry>() as u64;
const ENTRY: u64 = size_of::<abi::HvmMemmapTableEntry>() as u64;

/// The length of the block that [`build`] makes, in bytes. The map has at most four entries.
#[must_use]
pub fn size(command_line: &str) -> u64 {
    HEAD + MODULE + 4 * ENTRY + command_line.len() as u64 + 1
}

/// Makes the block, for the place in `at`. A ramdisk of no bytes is no module.
#[must_use]
pub fn build(
    at: Placement,
    command_line: &str,
    ramdisk_bytes: u64,
    rsdp: u64,
    map: &[E820Entry],
) -> Vec<u8> {
    let modules = u32::from(ramdisk_bytes > 0);
    let module_list = at.info + HEAD;
    let memory_map = module_list + MODULE;
    let command = memory_map + map.len() as u64 * ENTRY;
    let head = abi::HvmStartInfo {
        magic: abi::XEN_HVM_START_MAGIC_VALUE,
        version: VERSION,
        flags: 0,
        nr_modules: modules,
        modlist_paddr: if modules > 0 { module_list } else { 0 },
        cmdline_paddr: command,
        rsdp_paddr: rsdp,
        memmap_paddr: memory_map,
        memmap_entries: map.len() as u32,
        reserved: 0,
    };
    let module = abi::HvmModlistEntry {
        paddr: at.ramdisk,
        size: ramdisk_bytes,
        cmdline_paddr: 0,
        reserved: 0,
    };
    let mut bytes = [bytemuck::bytes_of(&head), bytemuck::bytes_of(&module)].concat();
    for entry in map {
        let entry = abi::HvmMemmapTableEntry {
            addr: entry.addr,
            size: entry.size,
            kind: entry.kind,
            reserved: 0,
        };
        bytes.extend_from_slice(bytemuck::bytes_of(&entry));
    }
    bytes.extend_from_slice(command_line.as_bytes());
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Ram;

    fn word(bytes: &[u8], at: u64) -> u64 {
        let at = at as usize;
        u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
    }

    #[test]
    fn every_pointer_points_at_its_thing() {
        let at = Placement {
            info: 0x200_0000,
            ramdisk: 0x300_0000,
        };
        let map = Ram::new(8192).memory_map(4096);
        let bytes = build(at, "console=hvc0", 777, 0xfc00_1000, &map);
        assert!(bytes.len() as u64 <= size("console=hvc0"));
        let local = |pointer: u64| pointer - at.info;
        assert_eq!(&bytes[..4], &[0x78, 0xc5, 0x6e, 0x33]);
        assert_eq!(word(&bytes, 32), 0xfc00_1000);
        let modules = local(word(&bytes, 16));
        assert_eq!(
            (word(&bytes, modules), word(&bytes, modules + 8)),
            (at.ramdisk, 777)
        );
        let command = local(word(&bytes, 24)) as usize;
        assert_eq!(&bytes[command..], b"console=hvc0\0");
        let entries = local(word(&bytes, 40));
        assert_eq!(word(&bytes, entries + 3 * 24), 1 << 32);
        assert_eq!(bytes[48], 4);
    }

    #[test]
    fn without_a_ramdisk_there_is_no_module() {
        let at = Placement {
            info: 0x200_0000,
            ramdisk: 0x300_0000,
        };
        let bytes = build(at, "", 0, 0, &[]);
        assert_eq!((bytes[12], word(&bytes, 16)), (0, 0));
    }
}
