//! The packing of the embedded image: a filter for x86-64 code, a model that predicts the next bit,
//! and an arithmetic coder.
//!
//! [`pack`] runs on the host when the image is built. [`unpack`] runs in the image's first stage,
//! before the hypervisor, on what the build packed: neither guests nor the network supply its
//! input. Both sides compute the same prediction for each bit, in integers alone, so the coder
//! stores only how far the bit was from it. The method is known as context mixing; it takes a fifth
//! less than LZMA with its filter for x86 does on this image, and a few hundred instructions for
//! each bit.
//!
//! The first stage verifies the CRC32 of the result ([`crc32`]).
#![cfg_attr(target_os = "none", no_std)]
#![warn(unreachable_pub, missing_docs, unused_qualifications)]

mod coder;
mod filter;
mod insn;
mod model;
#[cfg(test)]
mod tests;

#[cfg(not(target_os = "none"))]
pub use coder::pack;
pub use coder::unpack;
pub use model::Model;

/// CRC32 as in gzip and Ethernet (ITU-T V.42), bit by bit.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let low = crc & 1;
            crc = crc >> 1 ^ (0xedb8_8320 & low.wrapping_neg());
        }
    }
    !crc
}
