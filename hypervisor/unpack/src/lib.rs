//! A kernel's image: Linux' bzImage with its compressed payload, or the bare ELF file
//! (Linux, Documentation/arch/x86/boot.rst).
//!
//! Unpacking is half of what a boot costs, so this crate, into which the decoder's generic code is
//! compiled, is not optimised for size.
#![cfg_attr(target_os = "none", no_std)]

#[cfg(test)]
mod tests;
mod xz;

use core::fmt;

pub use xz::XzError;

const ELF: &[u8] = b"\x7fELF";

/// Offsets in the boot sector.
const SETUP_SECTS: usize = 0x1f1;
const HEADER: usize = 0x202;
const VERSION: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// The boot protocol that first names the payload.
const FIRST_VERSION: u16 = 0x208;
const SECTOR: usize = 512;

/// A kernel that claims to unpack to more than this is broken.
const LARGEST: usize = 512 << 20;

/// A kernel's image cannot be unpacked.
#[derive(Debug)]
pub enum ImageError {
    /// The file is neither a bzImage of a known version nor an ELF file.
    Unknown,
    /// The file ends before its contents do.
    Truncated,
    /// The payload is not packed with xz; its first bytes.
    Compression([u8; 4]),
    /// The payload is damaged.
    Corrupt(XzError),
    /// The payload unpacks to more bytes than it says.
    Size,
    /// The room is smaller than the unpacked kernel.
    NoMemory,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => write!(f, "neither a bzImage nor an ELF file"),
            Self::Truncated => write!(f, "truncated"),
            Self::Compression(magic) => write!(
                f,
                "a compression that is not unpacked here ({magic:02x?}): xz is"
            ),
            Self::Corrupt(error) => write!(f, "corrupt: {error}"),
            Self::Size => write!(f, "larger than it says"),
            Self::NoMemory => write!(f, "no contiguous memory to unpack it"),
        }
    }
}

/// A kernel's image that has been read but not unpacked.
#[derive(Debug)]
pub enum Image<'a> {
    /// The ELF file as it is.
    Plain(&'a [u8]),
    /// An ELF file packed with xz.
    Xz {
        /// The packed bytes.
        packed: &'a [u8],
        /// Bytes of the unpacked file.
        size: usize,
    },
}

impl<'a> Image<'a> {
    /// Finds the kernel in an image.
    ///
    /// # Errors
    /// `Unknown` if the file is no kernel; `Truncated` if it ends too early; `Compression` if its
    /// payload is not packed with xz.
    pub fn open(image: &'a [u8]) -> Result<Self, ImageError> {
        if image.starts_with(ELF) {
            return Ok(Self::Plain(image));
        }
        let payload = payload(image)?;
        if payload.starts_with(ELF) {
            return Ok(Self::Plain(payload));
        }
        if !payload.starts_with(xz::MAGIC) {
            let mut magic = [0; 4];
            magic.copy_from_slice(payload.get(..4).ok_or(ImageError::Truncated)?);
            return Err(ImageError::Compression(magic));
        }
        // The build appends the unpacked size.
        let (packed, size) = payload
            .split_last_chunk::<4>()
            .ok_or(ImageError::Truncated)?;
        let size = u32::from_le_bytes(*size) as usize;
        if size > LARGEST {
            return Err(ImageError::Truncated);
        }
        Ok(Self::Xz { packed, size })
    }

    /// Bytes of room that [`Image::unpack`] needs.
    pub fn room(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Xz { size, .. } => *size,
        }
    }

    /// The kernel's ELF file: unpacked to `room`, of which [`Image::room`] bytes are needed, or
    /// where it is.
    ///
    /// # Errors
    /// `NoMemory` if the room is too small; `Corrupt` or `Size` if the payload is damaged.
    pub fn unpack<'b>(self, room: &'b mut [u8]) -> Result<&'b [u8], ImageError>
    where
        'a: 'b,
    {
        let (packed, size) = match self {
            Self::Plain(elf) => return Ok(elf),
            Self::Xz { packed, size } => (packed, size),
        };
        let unpacked = room.get_mut(..size).ok_or(ImageError::NoMemory)?;
        log::info!(
            "unpacking the kernel: {} KiB to {} KiB",
            packed.len() >> 10,
            size >> 10
        );
        match xz::unpack(packed, unpacked) {
            Ok(()) => Ok(unpacked),
            Err(XzError::Longer) => Err(ImageError::Size),
            Err(error) => Err(ImageError::Corrupt(error)),
        }
    }
}

fn payload(image: &[u8]) -> Result<&[u8], ImageError> {
    if image.get(HEADER..HEADER + 4) != Some(b"HdrS") {
        return Err(ImageError::Unknown);
    }
    let byte = |at: usize| image.get(at).copied().ok_or(ImageError::Truncated);
    let version = u16::from_le_bytes([byte(VERSION)?, byte(VERSION + 1)?]);
    if version < FIRST_VERSION {
        return Err(ImageError::Unknown);
    }
    let word = |at: usize| {
        let bytes = image
            .get(at..at + 4)
            .and_then(|b| b.try_into().ok())
            .ok_or(ImageError::Truncated)?;
        Ok::<usize, ImageError>(u32::from_le_bytes(bytes) as usize)
    };
    let setup = match byte(SETUP_SECTS)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (setup + 1) * SECTOR + word(PAYLOAD_OFFSET)?;
    image
        .get(start..start + word(PAYLOAD_LENGTH)?)
        .ok_or(ImageError::Truncated)
}
