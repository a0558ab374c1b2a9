//! Guest kernels: from the bytes of a file to the segments in the guest's memory.
//!
//! A bzImage is unpacked first (x86 boot protocol 2.08, Documentation/arch/x86/boot.rst); what is
//! inside, or the file itself, is an ELF image that names its PVH entry in a note
//! (XEN_ELFNOTE_PHYS32_ENTRY, xen/elfnote.h).

mod bzimage;
mod cache;
mod elf;
mod lzo;
mod unpack;

use crate::Error;
use std::path::Path;

pub use cache::Cache;
pub use elf::{Kernel, Segment};

/// The largest kernel file or unpacked kernel, in bytes, so that a wrong length cannot use up
/// dom0's memory.
const MAX_BYTES: usize = 1 << 30;

const NO_KERNEL: &str = "this is not a kernel that can run as a PVH guest";

/// Reads a whole file.
///
/// # Errors
/// `Error` if the file is missing, unreadable, empty or too large; `key` is the configuration key
/// that named it.
pub fn read_file(path: &Path, key: &str) -> Result<Vec<u8>, Error> {
    let what = format!("cannot read the {key} {}", path.display());
    let fail = |cause: &str| {
        Error::new(&what, cause).remedy(format!("check {key}= in the guest's configuration"))
    };
    let length = match std::fs::metadata(path) {
        Ok(meta) if !meta.is_file() => return Err(fail("it is not a file")),
        Ok(meta) => meta.len(),
        Err(error) => return Err(fail(&error.to_string())),
    };
    match length {
        0 => Err(fail("the file is empty")),
        length if length > MAX_BYTES as u64 => Err(fail("the file is larger than 1 GiB")),
        _ => std::fs::read(path).map_err(|error| fail(&error.to_string())),
    }
}

/// Parses a kernel.
///
/// # Errors
/// `Error` that says why the bytes are no kernel that can be booted.
pub fn parse(bytes: &[u8]) -> Result<Kernel, Error> {
    parse_within(bytes, MAX_BYTES)
}

/// Takes a kernel that is unpacked already.
///
/// # Errors
/// `Error` if the image is no ELF kernel with a PVH entry.
pub fn from_elf(image: Vec<u8>) -> Result<Kernel, Error> {
    elf::parse(image).map_err(|cause| Error::new(NO_KERNEL, cause))
}

/// Parses a kernel whose unpacked form has no more than `most` bytes.
///
/// # Errors
/// `Error` that says why the bytes are no kernel that can be booted.
pub fn parse_within(bytes: &[u8], most: usize) -> Result<Kernel, Error> {
    let fail = |cause: String, remedy: &str| Err(Error::new(NO_KERNEL, cause).remedy(remedy));
    let whole = "the file may be cut off: compare its size with the original's";
    if bytes.starts_with(elf::MAGIC) {
        return elf::parse(bytes.to_vec())
            .or_else(|cause| fail(cause, "build the kernel with CONFIG_PVH"));
    }
    match bzimage::payload(bytes) {
        Err(cause) => fail(cause, whole),
        Ok(None) => fail(
            "it is neither a bzImage nor an ELF image".to_owned(),
            "give the path of an x86 Linux bzImage (vmlinuz) or of an ELF kernel",
        ),
        Ok(Some(payload)) => match unpack::unpack(payload.packed, most.min(MAX_BYTES)) {
            Err(cause) => fail(cause, whole),
            Ok(image) if image.starts_with(elf::MAGIC) => {
                let mut kernel = elf::parse(image)
                    .or_else(|cause| fail(cause, "build the kernel with CONFIG_PVH"))?;
                if let Some(most) = payload.max_command_line {
                    kernel.max_command_line = most;
                }
                Ok(kernel)
            }
            Ok(_) => fail(
                "what is packed in the bzImage is not an ELF image".to_owned(),
                whole,
            ),
        },
    }
}

#[cfg(test)]
mod tests;
