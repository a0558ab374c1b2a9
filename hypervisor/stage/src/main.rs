//! The first stage of the embedded image: unpacks the hypervisor to where it is linked, and enters
//! it as the boot loader would.
//!
//! The loader sees a flat Multiboot image (1 and 2). `entry.s` moves the image away, enters long
//! mode with the first GiB mapped at its own addresses, and calls [`oxen_unpack`]. boot/stage.ld
//! has the map of the memory.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(
    target_os = "none",
    allow(
        unsafe_code,
        reason = "reads the packed image behind its own end, writes the hypervisor's"
    )
)]

#[cfg(target_os = "none")]
mod bare {
    use oxen_pack::Model;

    /// Between `oxen_tables` with page tables and stack, and END: see boot/stage.ld.
    const _: () = assert!(size_of::<Model>() <= 0x80_0000 - 0x32_f000);

    core::arch::global_asm!(include_str!("entry.s"));

    /// The header of the packed image; boot/src/embedded.rs writes it.
    #[repr(C)]
    struct Packed {
        /// Bytes of the packed image with this header.
        length: u32,
        /// Bytes of the image, of which the first `text` are code.
        plain: u32,
        text: u32,
        /// CRC32 of the image.
        checksum: u32,
        /// The image's 32-bit entry.
        entry: u32,
    }

    /// Unpacks the image to `to`, and returns its entry.
    ///
    /// # Safety
    /// Only `entry.s` calls this, once: `packed` is followed by the packed bytes, `to` is memory
    /// for the image, and `model` is cleared memory for the model; none of them overlap.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn oxen_unpack(packed: &Packed, to: *mut u8, model: &mut Model) -> u32 {
        // SAFETY: the packed bytes follow their header.
        let bytes = unsafe {
            let behind = core::ptr::from_ref(packed).add(1).cast::<u8>();
            core::slice::from_raw_parts(behind, packed.length as usize - size_of::<Packed>())
        };
        // SAFETY: the loader keeps this memory free, and the file has moved away from it.
        let image = unsafe { core::slice::from_raw_parts_mut(to, packed.plain as usize) };
        oxen_pack::unpack(model, bytes, packed.text as usize, image);
        if oxen_pack::crc32(image) != packed.checksum {
            stop(b"Oxen: the image is damaged (wrong CRC32)\r\n");
        }
        packed.entry
    }

    /// Writes to COM1, as the loader has set it, and halts.
    fn stop(text: &[u8]) -> ! {
        for byte in text {
            // SAFETY: nothing but the console's port is written.
            unsafe {
                core::arch::asm!("out dx, al", in("dx") 0x3f8_u16, in("al") *byte, options(nomem, nostack));
            }
        }
        loop {
            // SAFETY: interrupts are off: the CPU stays here.
            unsafe { core::arch::asm!("hlt", options(nomem, nostack)) };
        }
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        stop(b"Oxen: the first stage failed\r\n")
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("oxen-stage unpacks a hypervisor: ./x build --embedded makes an image of it");
}
