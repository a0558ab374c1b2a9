//! The hypervisor's part of the linear address space, laid out as Xen's x86-64 layout is, so that
//! PV guests can share page tables with the hypervisor. `docs/memory-map.md` and `boot/oxen.ld`
//! have the same numbers.

use crate::{Maddr, Vaddr};

/// The first address of the hypervisor's. The 256 GiB from here on stay free for the
/// machine-to-physical table that PV guests read.
pub const START: u64 = 0xffff_8000_0000_0000;
/// Stacks, each between unmapped guard pages.
pub const STACKS: u64 = 0xffff_82c0_0000_0000;
/// The end of [`STACKS`].
pub const STACKS_END: u64 = IMAGE;
/// The image lies in the 64 GiB from here on.
pub const IMAGE: u64 = 0xffff_82d0_0000_0000;
/// The end of [`IMAGE`]. The 128 GiB from here on stay free for the frame table.
pub const IMAGE_END: u64 = 0xffff_82e0_0000_0000;
/// Linear minus machine address of everything in the image: `VOFFSET` of the linker script.
pub const IMAGE_OFFSET: u64 = 0xffff_82d0_8000_0000;
/// Machine address 0: all RAM, and devices where they were asked for.
pub const DIRECT_MAP: u64 = 0xffff_8300_0000_0000;
/// The first address after the hypervisor's.
pub const END: u64 = 0xffff_8800_0000_0000;
/// The size of the direct map: 5 TiB.
pub const DIRECT_MAP_LEN: u64 = END - DIRECT_MAP;
/// Machine addresses that the entry code's page tables map, at 0 and in the direct map.
pub const BOOT_MAPPED: u64 = 4 << 30;

/// The linear address of a machine address in the direct map; `None` beyond the direct map.
pub const fn direct_map(addr: Maddr) -> Option<Vaddr> {
    if addr.raw() < DIRECT_MAP_LEN {
        Some(Vaddr::new(DIRECT_MAP + addr.raw()))
    } else {
        None
    }
}

/// The machine address behind a linear address of the image or of the direct map; `None` for
/// others.
pub const fn machine_address(addr: Vaddr) -> Option<Maddr> {
    let raw = addr.raw();
    if raw >= DIRECT_MAP && raw < END {
        Some(Maddr::new(raw - DIRECT_MAP))
    } else if raw >= IMAGE_OFFSET && raw < IMAGE_END {
        Some(Maddr::new(raw - IMAGE_OFFSET))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;
    use std::format;

    #[test]
    fn direct_map_and_back() {
        let addr = Maddr::new(0x1234_5678);
        let linear = direct_map(addr).unwrap();
        assert_eq!(linear.raw(), 0xffff_8300_1234_5678);
        assert_eq!(machine_address(linear), Some(addr));
        assert_eq!(
            machine_address(Vaddr::new(IMAGE_OFFSET + 0x20_0000)),
            Some(Maddr::new(0x20_0000))
        );
        assert_eq!(machine_address(Vaddr::new(0x1000)), None);
        assert_eq!(direct_map(Maddr::new(1 << 46)), None);
    }

    #[test]
    fn the_linker_script_and_the_documentation_have_the_same_numbers() {
        let script = include_str!("../../../boot/oxen.ld");
        assert!(script.contains(&format!("VOFFSET = {IMAGE_OFFSET:#x};")));
        let page = include_str!("../../../docs/memory-map.md");
        for (from, room) in [
            (START, STACKS - START),
            (STACKS, STACKS_END - STACKS),
            (IMAGE_END, DIRECT_MAP - IMAGE_END),
            (DIRECT_MAP, DIRECT_MAP_LEN),
            (IMAGE_OFFSET, 0),
            (END, 0),
        ] {
            let (high, low) = (from >> 32, from as u32);
            let row = format!("| {high:08x}_{low:08x} |");
            let line = page.lines().find(|line| line.starts_with(&row));
            let line = line.unwrap_or_else(|| panic!("docs/memory-map.md has no row {row}"));
            let size = match room >> 30 {
                0 => continue,
                // Above the machine-to-physical table nothing is planned.
                _ if from == START => "256 GiB".into(),
                gib @ 1..1024 => format!("{gib} GiB"),
                gib => format!("{} TiB", gib / 1024),
            };
            assert!(line.contains(&format!("| {size} |")), "{line}: {size}");
        }
    }
}
