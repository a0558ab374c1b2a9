//! The container format of a kernel's payload ("The .xz File Format", 1.2): what Linux' own decoder takes, that
//! is LZMA2, maybe with the filter for x86, and CRC32 or no check (Documentation/staging/xz.rst).

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

#[derive(Debug, PartialEq)]
pub enum XzError {
    Truncated,
    Check(u8),
    Filter(u64),
    /// A header, or what was packed.
    Checksum,
    Shorter(usize),
    Longer,
    Data,
}

impl fmt::Display for XzError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => write!(f, "truncated"),
            Self::Check(kind) => write!(f, "check {kind}, which is neither CRC32 nor none"),
            Self::Filter(id) => write!(f, "filter {id:#x}, which is not for an x86 kernel"),
            Self::Checksum => write!(f, "a checksum is wrong"),
            Self::Shorter(bytes) => write!(f, "{bytes} bytes where more were promised"),
            Self::Longer => write!(f, "more bytes than were promised"),
            Self::Data => write!(f, "damaged, or too large for the memory"),
        }
    }
}

/// Unpacks a stream that holds exactly `out.len()` bytes.
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
        rest = behind.get(..).ok_or(XzError::Truncated)?;
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

/// Unpacks a block into the start of `out`: how many bytes that were, and what follows the packed ones.
fn block<'a>(packed: &'a [u8], out: &mut [u8]) -> Result<(usize, &'a [u8]), XzError> {
    let size = packed
        .first()
        .map_or(0, |words| (usize::from(*words) + 1) * 4);
    let (header, rest) = packed.split_at_checked(size).ok_or(XzError::Truncated)?;
    let Filters { x86, dictionary } = Filters::parse(checked(header)?)?;
    // It need not be larger than what is unpacked.
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
    // The end is marked, too.
    match reader.read(&mut [0]).map_err(|_| XzError::Data)? {
        0 => Ok(done),
        _ => Err(XzError::Longer),
    }
}

struct Filters {
    /// The address that the filter counts from.
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
    /// Seven bits a byte, the lowest first.
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

/// What is before the checksum at the end.
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::vec;
    use std::vec::Vec;

    use lzma_rust2::{CheckType, FilterType, XzOptions, XzWriter};

    use super::*;

    /// Calls among other bytes, which the filter changes.
    fn data() -> Vec<u8> {
        let word = |n: u32| {
            let [a, b, ..] = (n * 977).to_le_bytes();
            [0xe8, a, b, 0, 0, n as u8 & 15]
        };
        (0..20_000).flat_map(word).collect()
    }

    fn packed(prepare: impl FnOnce(&mut XzOptions)) -> Vec<u8> {
        let mut options = XzOptions::with_preset(1);
        options.set_check_sum_type(CheckType::Crc32);
        prepare(&mut options);
        let mut writer = XzWriter::new(Vec::new(), options).expect("good options");
        writer.write_all(&data()).expect("room");
        writer.finish().expect("room")
    }

    fn unpacked(packed: &[u8], size: usize) -> Result<Vec<u8>, XzError> {
        let mut out = vec![0; size];
        unpack(packed, &mut out).map(|()| out)
    }

    #[test]
    fn with_and_without_the_filter_and_in_blocks() {
        let size = data().len();
        let plain = packed(|_| ());
        assert_eq!(unpacked(&plain, size), Ok(data()));
        let filtered = packed(|options| options.prepend_pre_filter(FilterType::BcjX86, 0));
        assert_eq!(unpacked(&filtered, size), Ok(data()));
        assert_ne!(plain.len(), filtered.len());
        let unchecked = packed(|options| options.set_check_sum_type(CheckType::None));
        assert_eq!(unpacked(&unchecked, size), Ok(data()));
        let blocks = packed(|options| options.set_block_size(std::num::NonZeroU64::new(1 << 16)));
        assert_eq!(unpacked(&blocks, size), Ok(data()));
    }

    #[test]
    fn another_size_than_promised() {
        let packed = packed(|_| ());
        let size = data().len();
        assert_eq!(unpacked(&packed, size - 1), Err(XzError::Longer));
        assert_eq!(unpacked(&packed, size + 1), Err(XzError::Shorter(size)));
    }

    #[test]
    fn other_filters_and_checks_are_named() {
        let arm = packed(|options| options.prepend_pre_filter(FilterType::BcjArm, 0));
        assert_eq!(unpacked(&arm, data().len()), Err(XzError::Filter(7)));
        let sha = packed(|options| options.set_check_sum_type(CheckType::Sha256));
        assert_eq!(unpacked(&sha, data().len()), Err(XzError::Check(10)));
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let packed = packed(|options| options.prepend_pre_filter(FilterType::BcjX86, 0));
        let size = data().len();
        // The index and what follows are of no use to us.
        let sum = packed.len() - 12 - 12;
        for at in (MAGIC.len()..sum)
            .step_by(97)
            .chain([7, 12, 13, 14, 20, sum - 4])
        {
            let mut damaged = packed.clone();
            damaged[at] ^= 0x55;
            assert!(unpacked(&damaged, size).is_err(), "byte {at}");
        }
        for length in (0..sum).step_by(101) {
            assert!(unpacked(&packed[..length], size).is_err(), "{length} bytes");
        }
    }
}
