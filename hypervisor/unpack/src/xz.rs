//! The container of a kernel's payload ("The .xz File Format", version 1.2), as far as Linux' own
//! decoder takes it (Documentation/staging/xz.rst): LZMA2, with or without the filter for x86, and
//! CRC32 or no check.
//!
//! lzma-rust2 decodes LZMA2 and the filter. Its reader of the container would link SHA-256, CRC64
//! and the filters of seven other processors. The tests compare this reader with that one.
//!
//! The headers and the check of each block are verified. The index and the footer, which follow the
//! last block, hold nothing that is needed and are not read.

use core::fmt;

use lzma_rust2::Lzma2Reader;
#[cfg(target_os = "none")]
use lzma_rust2::Read;
use lzma_rust2::filter::bcj::BcjReader;
#[cfg(not(target_os = "none"))]
use std::io::Read;

pub(crate) const MAGIC: &[u8] = b"\xfd7zXZ\0";
const STREAM_HEADER: usize = 12;

const FILTER_X86: u64 = 4;
const FILTER_LZMA2: u64 = 0x21;
const CHECK_NONE: u8 = 0;
const CHECK_CRC32: u8 = 1;

/// In the flags of a block.
const FILTERS: u8 = 0x03;
const HAS_PACKED_SIZE: u8 = 0x40;
const HAS_SIZE: u8 = 0x80;

/// Why a stream was refused.
#[derive(Debug, PartialEq)]
pub enum XzError {
    /// The stream ends before its last block does.
    Truncated,
    /// The id of a check that is neither CRC32 nor none.
    Check(u8),
    /// The id of a filter that is neither LZMA2 nor x86, or zero if LZMA2 is missing.
    Filter(u64),
    /// The CRC32 of a header or of a block's data.
    Checksum,
    /// The stream holds this many bytes, fewer than its length says.
    Shorter(usize),
    /// The stream holds more bytes than its length says.
    Longer,
    /// LZMA2 data or a number in a header.
    Data,
}

impl fmt::Display for XzError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => write!(f, "truncated"),
            Self::Check(kind) => write!(f, "check {kind} is neither CRC32 nor none"),
            Self::Filter(id) => write!(f, "filter {id:#x} is neither LZMA2 nor x86"),
            Self::Checksum => write!(f, "wrong checksum"),
            Self::Shorter(bytes) => write!(f, "only {bytes} bytes"),
            Self::Longer => write!(f, "more bytes than its length"),
            Self::Data => write!(f, "damaged data"),
        }
    }
}

/// Unpacks a stream that holds exactly `out.len()` bytes.
///
/// # Errors
/// [`XzError`], of which each variant names its cause.
pub(crate) fn unpack(packed: &[u8], out: &mut [u8]) -> Result<(), XzError> {
    let (header, mut rest) = packed
        .split_at_checked(STREAM_HEADER)
        .ok_or(XzError::Truncated)?;
    checked(&header[MAGIC.len()..])?;
    let check = header[7];
    if !matches!(check, CHECK_NONE | CHECK_CRC32) {
        return Err(XzError::Check(check));
    }
    let mut done = 0;
    // A zero in the place of a block's size begins the index.
    while rest.first().is_some_and(|size| *size != 0) {
        let (bytes, behind) = block(rest, out.get_mut(done..).unwrap_or_default())?;
        rest = behind;
        // The packed bytes are padded to words.
        let padding = (packed.len() - rest.len()).wrapping_neg() & 3;
        rest = rest.get(padding..).ok_or(XzError::Truncated)?;
        if check == CHECK_CRC32 {
            let (sum, behind) = rest.split_first_chunk().ok_or(XzError::Truncated)?;
            let new = out.get(done..done + bytes).unwrap_or_default();
            if crc32(new) != u32::from_le_bytes(*sum) {
                return Err(XzError::Checksum);
            }
            rest = behind;
        }
        done += bytes;
    }
    if done != out.len() {
        return Err(XzError::Shorter(done));
    }
    Ok(())
}

/// Unpacks a block into the start of `out`. Returns the number of bytes, and the input behind the
/// packed ones.
fn block<'a>(packed: &'a [u8], out: &mut [u8]) -> Result<(usize, &'a [u8]), XzError> {
    let size = packed
        .first()
        .map_or(0, |words| (usize::from(*words) + 1) * 4);
    let (header, rest) = packed.split_at_checked(size).ok_or(XzError::Truncated)?;
    let Filters { x86, dictionary } = Filters::parse(checked(header)?)?;
    // A dictionary larger than the unpacked bytes is of no use.
    let most = u32::try_from(out.len()).unwrap_or(u32::MAX).max(4096);
    let lzma = Lzma2Reader::new(rest, dictionary.min(most), None);
    match x86 {
        None => {
            let mut reader = lzma;
            let bytes = read_all(&mut reader, out)?;
            Ok((bytes, reader.into_inner()))
        }
        Some(start) => {
            let mut reader = BcjReader::new_x86(lzma, start as usize);
            let bytes = read_all(&mut reader, out)?;
            Ok((bytes, reader.into_inner().into_inner()))
        }
    }
}

fn read_all(reader: &mut dyn Read, out: &mut [u8]) -> Result<usize, XzError> {
    let mut done = 0;
    while done < out.len() {
        match reader.read(&mut out[done..]).map_err(|_| XzError::Data)? {
            0 => return Ok(done),
            bytes => done += bytes,
        }
    }
    // Reading on reaches the mark of the end.
    match reader.read(&mut [0]).map_err(|_| XzError::Data)? {
        0 => Ok(done),
        _ => Err(XzError::Longer),
    }
}

struct Filters {
    /// The address that the x86 filter counts from. `None` without the filter.
    x86: Option<u32>,
    dictionary: u32,
}

impl Filters {
    /// From a block's header, without its checksum.
    fn parse(header: &[u8]) -> Result<Self, XzError> {
        let mut reader = Header(header.get(2..).ok_or(XzError::Truncated)?);
        let flags = header[1];
        for size in [HAS_PACKED_SIZE, HAS_SIZE] {
            if flags & size != 0 {
                reader.number()?;
            }
        }
        let (mut x86, mut dictionary) = (None, None);
        for _ in 0..=flags & FILTERS {
            let filter = reader.number()?;
            let length = reader.number()?;
            let properties = reader.take(length)?;
            match (filter, properties) {
                (FILTER_X86, []) => x86 = Some(0),
                (FILTER_X86, &[a, b, c, d]) => x86 = Some(u32::from_le_bytes([a, b, c, d])),
                (FILTER_LZMA2, &[size @ 0..=39]) => {
                    dictionary = Some(u32::from(2 | size & 1) << (size / 2 + 11));
                }
                (FILTER_LZMA2, [40]) => dictionary = Some(u32::MAX),
                _ => return Err(XzError::Filter(filter)),
            }
        }
        let dictionary = dictionary.ok_or(XzError::Filter(0))?;
        Ok(Self { x86, dictionary })
    }
}

struct Header<'a>(&'a [u8]);

impl<'a> Header<'a> {
    /// A number of seven bits a byte, the lowest first.
    fn number(&mut self) -> Result<u64, XzError> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(XzError::Data)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], XzError> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (taken, rest) = self.0.split_at_checked(length).ok_or(XzError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }
}

/// The bytes before the CRC32 at the end of a header, which is verified.
fn checked(bytes: &[u8]) -> Result<&[u8], XzError> {
    let (bytes, sum) = bytes.split_last_chunk().ok_or(XzError::Truncated)?;
    if crc32(bytes) != u32::from_le_bytes(*sum) {
        return Err(XzError::Checksum);
    }
    Ok(bytes)
}

fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    let step = |crc: u32, byte: &u8| TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8;
    !bytes.iter().fold(u32::MAX, step)
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let (mut value, mut bit) = (n as u32, 0);
        while bit < 8 {
            value = value >> 1 ^ if value & 1 != 0 { 0xedb8_8320 } else { 0 };
            bit += 1;
        }
        table[n] = value;
        n += 1;
    }
    table
}
