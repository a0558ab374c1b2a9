//! What is on a disk, as far as it tells us something: its format, whether it is cut off, whether
//! a guest has a file system of it mounted. All of it may have been written by a guest, so every number is
//! only compared.

use oxen_config::{DiskFormat, DiskSpec};
use rustix::fs::{OFlags, SeekFrom, seek};
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

const SECTOR: u64 = 512;
/// Partitions that are looked at.
const MAX_PARTITIONS: u64 = 128;

/// # Errors
/// Why an image cannot be what its description says.
pub(super) fn check(file: &File, spec: &DiskSpec) -> Result<(), String> {
    let size = seek(file, SeekFrom::End(0)).map_err(|errno| errno.to_string())?;
    if size == 0 {
        return Err("it is empty: a disk has at least one sector".to_owned());
    }
    let found = format(file, size, spec.format);
    if found != spec.format {
        return Err(format!(
            "its format is {}, not {}: say format={}",
            found.word(),
            spec.format.word(),
            found.word()
        ));
    }
    match spec.format {
        DiskFormat::Raw if size % SECTOR != 0 => Err(format!(
            "it is cut off: {size} bytes are not a whole number of sectors"
        )),
        DiskFormat::Raw => match needed(file).filter(|needed| *needed > size) {
            Some(needed) => Err(format!(
                "it is cut off: what is on it needs {needed} bytes, and it has {size}"
            )),
            None => Ok(()),
        },
        DiskFormat::Qcow2 if qcow2_needs(file) > size => {
            Err("it is cut off: its tables lie behind its end".to_owned())
        }
        _ => Ok(()),
    }
}

/// The format by its magic number; what has none is raw. A fixed VHD has it at its end only, where a raw
/// disk may have anything: that is looked at only if the disk is said to be one.
fn format(file: &File, size: u64, said: DiskFormat) -> DiskFormat {
    let head: [u8; 8] = read(file, 0);
    match &head {
        [b'Q', b'F', b'I', 0xfb, 0, 0, 0, 1] => DiskFormat::Qcow,
        [b'Q', b'F', b'I', 0xfb, ..] => DiskFormat::Qcow2,
        [b'Q', b'E', b'D', 0, ..] => DiskFormat::Qed,
        b"conectix" => DiskFormat::Vhd,
        [b'K', b'D', b'M', b'V', ..] | [b'C', b'O', b'W', b'D', ..] | b"# Disk D" => {
            DiskFormat::Vmdk
        }
        _ if said == DiskFormat::Vhd
            && &read::<8>(file, size.saturating_sub(SECTOR)) == b"conectix" =>
        {
            DiskFormat::Vhd
        }
        _ => DiskFormat::Raw,
    }
}

/// Where the tables of a qcow2 image end, by its header (docs/interop/qcow2.txt).
fn qcow2_needs(file: &File) -> u64 {
    let entries = u64::from(u32::from_be_bytes(read(file, 36)));
    let level1 = u64::from_be_bytes(read(file, 40));
    let references = u64::from_be_bytes(read(file, 48));
    level1
        .saturating_add(entries.saturating_mul(8))
        .max(references.saturating_add(1))
}

/// How many bytes what is on a raw disk says that it needs.
fn needed(disk: &impl Bytes) -> Option<u64> {
    let partitions = partitions(disk).into_iter().map(|part| part.end);
    partitions.chain(Ext::at(disk, 0).map(|fs| fs.bytes)).max()
}

/// A word on the file system of that device that is in use, if one is.
pub(super) fn mounted(device: &Path) -> Option<String> {
    // The driver writes past the page cache, so we read past it too.
    let file = File::options()
        .read(true)
        .custom_flags(OFlags::DIRECT.bits().cast_signed())
        .open(device)
        .ok()?;
    in_use(&Direct(file))
}

fn in_use(disk: &impl Bytes) -> Option<String> {
    let parts = partitions(disk);
    let places = parts.iter().map(|part| (part.start, part.number));
    core::iter::once((0, 0)).chain(places).find_map(|(start, number)| {
        let fs = Ext::at(disk, start).filter(|fs| fs.in_use)?;
        let place = match number {
            0 => String::new(),
            number => format!(" on partition {number}"),
        };
        let volume = match fs.label.is_empty() {
            true => String::new(),
            false => format!(" {:?}", fs.label),
        };
        Some(format!(
            "the ext file system{volume}{place} is mounted for writing, or was not unmounted at its guest's end"
        ))
    })
}

/// Something with bytes at places; zeros where there is nothing.
trait Bytes {
    fn bytes<const N: usize>(&self, at: u64) -> [u8; N];

    fn u32(&self, at: u64) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    fn u16(&self, at: u64) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    fn u64(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }
}

impl Bytes for File {
    fn bytes<const N: usize>(&self, at: u64) -> [u8; N] {
        read(self, at)
    }
}

fn read<const N: usize>(file: &File, at: u64) -> [u8; N] {
    let mut bytes = [0; N];
    // What is not there is zeros.
    let _ = file.read_exact_at(&mut bytes, at);
    bytes
}

/// A device opened for direct I/O: whole blocks into aligned memory.
struct Direct(File);

const BLOCK: usize = 4096;

impl Bytes for Direct {
    fn bytes<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut room = vec![0u8; 3 * BLOCK];
        let skip = room.as_ptr().align_offset(BLOCK).min(BLOCK);
        let first = at - at % BLOCK as u64;
        let offset = (at - first) as usize;
        let mut bytes = [0; N];
        if let Some(blocks) = room.get_mut(skip..skip + 2 * BLOCK) {
            let got = self.0.read_at(blocks, first).unwrap_or(0);
            if let Some(found) = blocks.get(offset..offset + N).filter(|_| offset + N <= got) {
                bytes.copy_from_slice(found);
            }
        }
        bytes
    }
}

/// A partition; places in bytes.
#[derive(Debug, PartialEq, Eq)]
struct Partition {
    number: u64,
    start: u64,
    end: u64,
}

/// The partitions of an MBR (the primary ones) or GPT table (UEFI specification, 5.3).
fn partitions(disk: &impl Bytes) -> Vec<Partition> {
    if disk.u16(510) != 0xaa55 {
        return Vec::new();
    }
    if &disk.bytes::<8>(SECTOR) == b"EFI PART" {
        let table = disk.u64(SECTOR + 72).saturating_mul(SECTOR);
        let count = u64::from(disk.u32(SECTOR + 80)).min(MAX_PARTITIONS);
        let size = u64::from(disk.u32(SECTOR + 84)).clamp(128, 4096);
        let entry = |number: u64| {
            let at = table.checked_add((number - 1) * size)?;
            let used = disk.bytes::<16>(at) != [0; 16];
            used.then(|| Partition {
                number,
                start: disk.u64(at + 32).saturating_mul(SECTOR),
                end: disk.u64(at + 40).saturating_add(1).saturating_mul(SECTOR),
            })
        };
        return (1..=count).filter_map(entry).collect();
    }
    let entry = |number: u64| {
        let at = 446 + (number - 1) * 16;
        let [flag, _, _, _, kind, ..] = disk.bytes::<16>(at);
        let start = u64::from(disk.u32(at + 8));
        let count = u64::from(disk.u32(at + 12));
        // A file system's boot sector has the same mark and other bytes here.
        (flag & 0x7f == 0 && kind != 0 && start != 0 && count != 0).then(|| Partition {
            number,
            start: start * SECTOR,
            end: (start + count) * SECTOR,
        })
    };
    (1..=4).filter_map(entry).collect()
}

/// What the superblock of ext2, 3 and 4 tells (Documentation/filesystems/ext4/super.rst).
struct Ext {
    bytes: u64,
    in_use: bool,
    label: String,
}

impl Ext {
    fn at(disk: &impl Bytes, start: u64) -> Option<Self> {
        let at = start.checked_add(1024)?;
        if disk.u16(at + 0x38) != 0xef53 {
            return None;
        }
        let [compatible, incompatible] = [disk.u32(at + 0x5c), disk.u32(at + 0x60)];
        let wide = incompatible & 0x80 != 0;
        let high = if wide { disk.u32(at + 0x150) } else { 0 };
        let blocks = u64::from(high) << 32 | u64::from(disk.u32(at + 4));
        let shift = disk.u32(at + 0x18).min(6);
        // With a journal the flag "needs recovery" stands while it is mounted; without, "clean" goes.
        let in_use = match compatible & 4 != 0 {
            true => incompatible & 4 != 0,
            false => disk.u16(at + 0x3a) & 1 == 0,
        };
        let label = disk.bytes::<16>(at + 0x78);
        let label = label.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(Self {
            bytes: blocks.saturating_mul(1024 << shift),
            in_use,
            label: String::from_utf8_lossy(label).into_owned(),
        })
    }
}

#[cfg(test)]
#[path = "content_tests.rs"]
mod tests;
