//! The layout of a PVH guest's physical memory. Guests and restore streams know some of these
//! addresses, so they are libxl's (xg_dom.h, libxl_x86_acpi.c): eight special pages below
//! 0xff000000, the ACPI tables at 0xfc000000, and a hole from there to 4 GiB.

use crate::image::Kernel;
use crate::{Error, Result};
use guest_pv_abi::{E820_ACPI, E820_RAM, E820_RESERVED};
use oxen_sys::hypercall::E820Entry;

pub const PAGE: u64 = 4096;
pub const MIB: u64 = 1 << 20;
const FOUR_GIB: u64 = 1 << 32;

/// The hole of the local APIC, the tables and the special pages: low memory ends here at the
/// latest.
pub const HOLE: u64 = 0xfc00_0000;
pub const ACPI_BASE: u64 = HOLE;

/// First of the special pages, by frame.
pub const SPECIAL: u64 = 0xfeff8;
pub const SPECIAL_PAGES: u64 = 8;
pub const STORE_GFN: u64 = SPECIAL + 4;
pub const IDENT_GFN: u64 = SPECIAL + 6;
pub const CONSOLE_GFN: u64 = SPECIAL + 7;
/// A frame beside the special pages that stays empty.
pub const SCRATCH_GFN: u64 = SPECIAL + SPECIAL_PAGES;

/// A guest's RAM: below the hole, and from 4 GiB on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ram {
    pub low_end: u64,
    /// 4 GiB when there is none above.
    pub high_end: u64,
}

impl Ram {
    #[must_use]
    pub fn new(mib: u32) -> Self {
        let bytes = u64::from(mib) * MIB;
        Self {
            low_end: bytes.min(HOLE),
            high_end: FOUR_GIB + bytes.saturating_sub(HOLE),
        }
    }

    /// The map that the guest sees.
    #[must_use]
    pub fn memory_map(&self, acpi_bytes: u64) -> Vec<E820Entry> {
        let mut map = vec![
            E820Entry {
                addr: 0,
                size: self.low_end,
                kind: E820_RAM,
            },
            E820Entry {
                addr: ACPI_BASE,
                size: acpi_bytes.next_multiple_of(PAGE),
                kind: E820_ACPI,
            },
            E820Entry {
                addr: SPECIAL * PAGE,
                size: SPECIAL_PAGES * PAGE,
                kind: E820_RESERVED,
            },
        ];
        if self.high_end > FOUR_GIB {
            map.push(E820Entry {
                addr: FOUR_GIB,
                size: self.high_end - FOUR_GIB,
                kind: E820_RAM,
            });
        }
        map
    }

    /// The ranges of RAM, as frames.
    #[must_use]
    pub fn ranges(&self) -> [(u64, u64); 2] {
        [
            (0, self.low_end / PAGE),
            (FOUR_GIB / PAGE, self.high_end / PAGE),
        ]
    }
}

/// The addresses of the builder's own data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// The start_info block.
    pub info: u64,
    pub ramdisk: u64,
}

/// Finds places for `info_bytes` of boot information and the ramdisk, above the kernel: the
/// kernel's early page tables reach 1 GiB, and the kernel may overwrite the range that its headers
/// announce.
///
/// # Errors
/// `Error` with the memory that is needed if the guest has too little.
pub fn place(ram: Ram, kernel: &Kernel, info_bytes: u64, ramdisk_bytes: u64) -> Result<Placement> {
    let (low, high) = kernel.extent();
    let info = high.next_multiple_of(PAGE);
    let ramdisk = (info + info_bytes).next_multiple_of(PAGE);
    let end = ramdisk + ramdisk_bytes.next_multiple_of(PAGE);
    if end > ram.low_end || low < PAGE {
        let need = end.div_ceil(MIB);
        let cause = format!(
            "memory={} is too little: kernel and ramdisk alone reach to {need} MiB",
            ram.low_end / MIB
        );
        let remedy = format!(
            "give it memory={} or more",
            (need + need / 2).next_multiple_of(16)
        );
        return Err(
            Error::new("the guest's kernel does not fit in its memory", cause).remedy(remedy),
        );
    }
    Ok(Placement { info, ramdisk })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image;
    use crate::testing::elf64;

    #[test]
    fn memory_is_all_there_and_never_in_the_hole() {
        for mib in [1, 64, 192, 4031, 4032, 4033, 4096, 8192, 1 << 20] {
            let ram = Ram::new(mib);
            let pages: u64 = ram.ranges().iter().map(|(start, end)| end - start).sum();
            assert_eq!(pages * PAGE, u64::from(mib) * MIB, "{mib}");
            assert!(ram.low_end <= HOLE);
            let map = ram.memory_map(5000);
            let mut last = 0;
            for entry in map {
                let (addr, size) = (entry.addr, entry.size);
                assert!(addr >= last && size > 0 && (addr | size) % PAGE == 0);
                last = addr + size;
            }
        }
    }

    #[test]
    fn the_special_pages_are_where_others_expect_them() {
        assert_eq!(
            (STORE_GFN, IDENT_GFN, CONSOLE_GFN),
            (0xfeffc, 0xfeffe, 0xfefff)
        );
    }

    #[test]
    fn too_little_memory_is_told_with_a_remedy() {
        let kernel = image::parse(&elf64(&[0xf4; 64])).expect("a kernel");
        let place = |mib, ramdisk| place(Ram::new(mib), &kernel, 4096, ramdisk);
        let good = place(64, MIB).expect("room enough");
        assert!(good.info >= kernel.extent().1 && good.ramdisk >= good.info + 4096);
        let error = place(16, 0)
            .expect_err("the kernel begins at 16 MiB")
            .to_string();
        assert!(
            error.contains("memory=16 is too little") && error.contains("memory=32 or more"),
            "{error}"
        );
        assert!(place(64, 60 * MIB).is_err());
        // Not even 4 GiB more help what must be low.
        assert!(place(8192, 5000 * MIB).is_err());
    }
}
