//! Where things lie in the hypervisor's linear address space, and the borders of its own image.
//!
//! All of the hypervisor's stays within 0xffff8000_00000000..0xffff8800_00000000, as in Xen, so that later PV
//! guests can share page tables with it. The entry code maps the image, and the first 4 GiB at 0
//! and at `DIRECT_MAP_BASE`; `oxen-mm` builds the final tables with the same addresses.

use oxen_types::{Maddr, Vaddr};

/// The machine-to-physical table that PV guests read (256 GiB of room).
pub const M2P_BASE: u64 = 0xffff_8000_0000_0000;
/// Mappings made one by one: stacks with guard pages, devices (64 GiB).
pub const VMAP_BASE: u64 = 0xffff_82c0_0000_0000;
/// The end of the mappings made one by one.
pub const VMAP_END: u64 = 0xffff_82d0_0000_0000;
/// Linear minus physical address for everything in the image (`VOFFSET` of the linker script).
pub const IMAGE_OFFSET: u64 = 0xffff_82d0_8000_0000;
/// One entry for each frame of RAM (128 GiB).
pub const FRAME_TABLE_BASE: u64 = 0xffff_82e0_0000_0000;
/// The end of the frame table's room.
pub const FRAME_TABLE_END: u64 = 0xffff_8300_0000_0000;
/// All of physical memory (5 TiB at most).
pub const DIRECT_MAP_BASE: u64 = 0xffff_8300_0000_0000;
/// The end of the direct map's room.
pub const DIRECT_MAP_END: u64 = 0xffff_8800_0000_0000;
/// Bytes of the direct map that the entry tables have.
pub const BOOT_MAPPED: u64 = 4 << 30;

/// The linear address of a machine address in the direct map; `None` above its room.
pub const fn direct_map(addr: Maddr) -> Option<Vaddr> {
    if addr.raw() < DIRECT_MAP_END - DIRECT_MAP_BASE {
        Some(Vaddr::new(DIRECT_MAP_BASE + addr.raw()))
    } else {
        None
    }
}

/// The machine address behind a linear address of the image or of the direct map.
pub const fn machine_address(addr: Vaddr) -> Option<Maddr> {
    let raw = addr.raw();
    if raw >= DIRECT_MAP_BASE && raw < DIRECT_MAP_END {
        Some(Maddr::new(raw - DIRECT_MAP_BASE))
    } else if raw >= IMAGE_OFFSET && raw < FRAME_TABLE_BASE {
        Some(Maddr::new(raw - IMAGE_OFFSET))
    } else {
        None
    }
}

/// The parts of the image, each starting and ending on a page border: map them RX, R and RW.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// Code.
    pub text: (Vaddr, Vaddr),
    /// Constants.
    pub rodata: (Vaddr, Vaddr),
    /// Data and bss.
    pub data: (Vaddr, Vaddr),
}

impl Image {
    /// Physical start and end of the whole image.
    pub fn machine_range(&self) -> (Maddr, Maddr) {
        (
            Maddr::new(self.text.0.raw() - IMAGE_OFFSET),
            Maddr::new(self.data.1.raw() - IMAGE_OFFSET),
        )
    }
}

#[cfg(target_os = "none")]
pub use linked::image;

#[cfg(target_os = "none")]
#[expect(unsafe_code, reason = "symbols of the linker script")]
mod linked {
    use super::*;
    use oxen_types::PAGE_MASK;

    unsafe extern "C" {
        static __text_start: u8;
        static __rodata_start: u8;
        static __data_start: u8;
        static __image_end: u8;
    }

    /// The image as the linker laid it out.
    pub fn image() -> Image {
        let at = |symbol: *const u8| Vaddr::new((symbol as u64) & !PAGE_MASK);
        let (text, rodata, data, end) = (
            at(&raw const __text_start),
            at(&raw const __rodata_start),
            at(&raw const __data_start),
            at(&raw const __image_end),
        );
        Image {
            text: (text, rodata),
            rodata: (rodata, data),
            data: (data, end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
