//! The borders of the hypervisor's own image. The addresses of all else are in
//! [`oxen_types::layout`]: the entry code maps the image, and the first 4 GiB at 0 and in the
//! direct map; `oxen-mm` builds the final tables.

use oxen_types::layout::IMAGE_OFFSET;
use oxen_types::{Maddr, Vaddr};

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
    use super::Image;
    use oxen_types::{PAGE_MASK, Vaddr};

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
