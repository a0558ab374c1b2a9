//! The compressions that Linux's build offers for a bzImage. In each the data is followed by four
//! bytes, the unpacked length (gzip's own trailer is just that).

use super::MAX_BYTES;
use std::io::{Cursor, Read};

/// Packed bytes with the length removed, and the length.
struct Packed<'a> {
    data: &'a [u8],
    length: usize,
}

type Unpacker = fn(&Packed<'_>) -> Result<Vec<u8>, String>;

const FORMATS: &[(&str, &[u8], Unpacker)] = &[
    ("gzip", &[0x1f, 0x8b], gzip),
    ("bzip2", b"BZh", bzip2),
    ("xz", b"\xfd7zXZ\0", xz),
    ("zstd", &[0x28, 0xb5, 0x2f, 0xfd], zstd),
    ("LZO", b"\x89LZO", lzo),
    ("LZ4", &[0x02, 0x21, 0x4c, 0x18], lz4),
    // LZMA has no magic number: these are the usual properties byte and the low half of the
    // dictionary's size.
    ("LZMA", &[0x5d, 0, 0], lzma),
    ("nothing", super::elf::MAGIC, plain),
];

/// Unpacks a bzImage's payload to `most` bytes at most.
pub(super) fn unpack(payload: &[u8], most: usize) -> Result<Vec<u8>, String> {
    let Some((name, _, unpacker)) = FORMATS
        .iter()
        .find(|(_, magic, _)| payload.starts_with(magic))
    else {
        return Err("the kernel in the bzImage is packed in an unknown way".to_owned());
    };
    let cut = || format!("the kernel in the bzImage ({name}) is truncated");
    let (data, length) = payload.split_last_chunk::<4>().ok_or_else(cut)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| cut())?;
    if length > most {
        return Err(format!(
            "the kernel in the bzImage ({name}) claims to be {length} bytes long, and {most} are the most"
        ));
    }
    let image = unpacker(&Packed { data, length })
        .map_err(|error| format!("the kernel in the bzImage ({name}) does not unpack: {error}"))?;
    if image.len() != length && *name != "nothing" {
        return Err(format!(
            "the kernel in the bzImage ({name}) unpacks to {} bytes where {length} are announced",
            image.len()
        ));
    }
    Ok(image)
}

/// Reads to the end, but at most one byte beyond the announced length.
fn drain(reader: impl Read, length: usize) -> Result<Vec<u8>, String> {
    let mut image = Vec::new();
    image
        .try_reserve_exact(length)
        .map_err(|_| "not enough memory in this domain".to_owned())?;
    let limit = u64::try_from(length).unwrap_or(u64::MAX).saturating_add(1);
    reader
        .take(limit)
        .read_to_end(&mut image)
        .map_err(|error| error.to_string())?;
    Ok(image)
}

fn gzip(packed: &Packed<'_>) -> Result<Vec<u8>, String> {
    // The length is part of the stream here.
    let whole = packed
        .data
        .iter()
        .copied()
        .chain((packed.length as u32).to_le_bytes())
        .collect::<Vec<u8>>();
    drain(
        flate2::read::GzDecoder::new(Cursor::new(whole)),
        packed.length,
    )
}

fn bzip2(packed: &Packed<'_>) -> Result<Vec<u8>, String> {
    drain(bzip2::read::BzDecoder::new(packed.data), packed.length)
}

fn xz(packed: &Packed<'_>) -> Result<Vec<u8>, String> {
    drain(lzma_rust2::XzReader::new(packed.data, false), packed.length)
}

fn lzma(packed: &Packed<'_>) -> Result<Vec<u8>, String> {
    let limit_kib = (MAX_BYTES >> 10) as u32;
    let reader = lzma_rust2::LzmaReader::new_mem_limit(packed.data, limit_kib, None)
        .map_err(|e| e.to_string())?;
    drain(reader, packed.length)
}

fn zstd(packed: &Packed<'_>) -> Result<Vec<u8>, String> {
    let reader =
        ruzstd::decoding::StreamingDecoder::new(packed.data).map_err(|error| error.to_string())?;
    drain(reader, packed.length)
}

fn plain(packed: &Packed<'_>) -> Result<Vec<u8>, String> {
    let length = (packed.length as u32).to_le_bytes();
    Ok([packed.data, &length].concat())
}

/// LZ4's legacy frame: blocks of at most 8 MiB, each after its packed length.
fn lz4(packed: &Packed<'_>) -> Result<Vec<u8>, String> {
    const BLOCK: usize = 8 << 20;
    let mut rest = packed.data.get(4..).unwrap_or_default();
    let mut image = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let block = after.get(..length).ok_or("a block is cut off")?;
        let left = packed.length.saturating_sub(image.len());
        let part = lz4_flex::block::decompress(block, left.min(BLOCK))
            .map_err(|error| error.to_string())?;
        image.extend(part);
        rest = after.get(length..).unwrap_or_default();
    }
    Ok(image)
}

/// lzop's file: a header, of which only the flags are needed, then blocks with both lengths.
fn lzo(packed: &Packed<'_>) -> Result<Vec<u8>, String> {
    const MAGIC: usize = 9;
    const HEADER_FILTER: u32 = 0x0800;
    const ADLER_PLAIN: u32 = 1;
    const ADLER_PACKED: u32 = 2;
    const CRC_PLAIN: u32 = 0x100;
    const CRC_PACKED: u32 = 0x200;
    let mut file = Reader(packed.data.get(MAGIC..).unwrap_or_default());
    let version = file.number(2)?;
    file.skip(2)?;
    if version >= 0x0940 {
        file.skip(2)?;
    }
    file.skip(1)?;
    if version >= 0x0940 {
        file.skip(1)?;
    }
    let flags = file.number(4)?;
    if flags & HEADER_FILTER != 0 {
        file.skip(4)?;
    }
    // Mode and times (the upper half of the time came with version 0x940), the name, a checksum.
    file.skip(if version >= 0x0940 { 12 } else { 8 })?;
    let name = file.number(1)? as usize;
    file.skip(name + 4)?;
    let mut image = Vec::new();
    loop {
        let plain = file.number(4)? as usize;
        if plain == 0 {
            return Ok(image);
        }
        if plain > packed.length.saturating_sub(image.len()) {
            return Err("a block is longer than the whole".to_owned());
        }
        let length = file.number(4)? as usize;
        let mut sums = (flags & ADLER_PLAIN != 0) as usize + (flags & CRC_PLAIN != 0) as usize;
        if length < plain {
            sums += (flags & ADLER_PACKED != 0) as usize + (flags & CRC_PACKED != 0) as usize;
        }
        file.skip(sums * 4)?;
        let block = file.take(length)?;
        if length < plain {
            image.extend(super::lzo::unpack(block, plain)?);
        } else {
            image.extend_from_slice(block);
        }
    }
}

/// Big-endian numbers from a slice.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (head, tail) = self
            .0
            .split_at_checked(length)
            .ok_or("the file ends early")?;
        self.0 = tail;
        Ok(head)
    }

    fn skip(&mut self, length: usize) -> Result<(), String> {
        self.take(length).map(drop)
    }

    fn number(&mut self, length: usize) -> Result<u32, String> {
        Ok(self
            .take(length)?
            .iter()
            .fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }
}
