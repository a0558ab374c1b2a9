//! The content of a disk: its format, whether it is cut off, and whether a guest has mounted a file
//! system on it. A guest may have written all of it, so every number is only compared, and nothing
//! of it is followed: a guest that writes a qcow2 header with a backing file onto its raw disk must
//! not get that disk opened as qcow2 (CVE-2008-2004).

use oxen_config::{DiskFormat, DiskSpec};
use rustix::fs::{OFlags, SeekFrom, seek};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Sectors of disks that do not say otherwise, and of files.
const SECTOR: u64 = 512;
/// The other size that disks have.
const LARGE_SECTOR: u64 = 4096;
/// Partitions that are looked at.
const MAX_PARTITIONS: u64 = 128;

/// Examines an image file. Returns a warning, if any: a raw disk may hold anything.
///
/// # Errors
/// A `String` that says why the content contradicts the description.
pub(super) fn check(file: &File, spec: &DiskSpec) -> Result<Option<String>, String> {
    let size = seek(file, SeekFrom::End(0)).map_err(|errno| errno.to_string())?;
    if size < SECTOR {
        return Err(match size {
            0 => "it is empty: a disk has at least one sector".to_owned(),
            size => format!("it is cut off: {size} bytes are less than one sector"),
        });
    }
    let said = spec.format;
    let found = format(file, size, said);
    if said == DiskFormat::Raw {
        return Ok(raw(file, size, found));
    }
    if found != said {
        return Err(format!(
            "it does not begin like a {} image, but like a {} one",
            said.word(),
            found.word()
        ));
    }
    if said == DiskFormat::Qcow2 && qcow2_needs(file) > size {
        return Err("it is cut off: its tables lie behind its end".to_owned());
    }
    Ok(None)
}

/// A warning about a raw image whose content looks like another format, or cut off.
fn raw(file: &File, size: u64, found: DiskFormat) -> Option<String> {
    if found != DiskFormat::Raw {
        return Some(format!(
            "it begins like a {} image; if a guest wrote that, never change the format",
            found.word()
        ));
    }
    if !size.is_multiple_of(SECTOR) {
        return Some(format!(
            "it looks cut off: {size} bytes are not a whole number of sectors"
        ));
    }
    let needed = needed(file).filter(|needed| *needed > size)?;
    Some(format!(
        "it looks cut off: what is on it needs {needed} bytes, and it has {size}"
    ))
}

/// The format by its magic number; what has none is raw. A fixed VHD has its own at its end only,
/// and what a guest wrote at its beginning.
fn format(file: &File, size: u64, said: DiskFormat) -> DiskFormat {
    if said == DiskFormat::Vhd && &read::<8>(file, size.saturating_sub(SECTOR)) == b"conectix" {
        return DiskFormat::Vhd;
    }
    let head: [u8; 8] = read(file, 0);
    match &head {
        [b'Q', b'F', b'I', 0xfb, 0, 0, 0, 1] => DiskFormat::Qcow,
        [b'Q', b'F', b'I', 0xfb, ..] => DiskFormat::Qcow2,
        [b'Q', b'E', b'D', 0, ..] => DiskFormat::Qed,
        b"conectix" => DiskFormat::Vhd,
        [b'K', b'D', b'M', b'V', ..] | [b'C', b'O', b'W', b'D', ..] | b"# Disk D" => {
            DiskFormat::Vmdk
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

/// The length that the content of a raw disk claims, in bytes.
fn needed(disk: &impl Bytes) -> Option<u64> {
    let partitions = partitions(disk).into_iter().map(|part| part.end);
    partitions.chain(Ext::at(disk, 0).map(|fs| fs.bytes)).max()
}

/// The reason not to take the device away: the file system that is in use, if one is.
pub(super) fn mounted(device: &Path) -> Option<String> {
    // The driver writes past the page cache, so this reads past it too.
    let file = File::options()
        .read(true)
        .custom_flags(OFlags::DIRECT.bits().cast_signed())
        .open(device)
        .ok()?;
    let sector = sector(&file).unwrap_or(SECTOR);
    in_use(&Direct { file, sector })
}

/// The size of a block device's sectors, as its guest sees them too.
fn sector(device: &File) -> Option<u64> {
    let rdev = device.metadata().ok()?.rdev();
    let (major, minor) = (rustix::fs::major(rdev), rustix::fs::minor(rdev));
    let directory = format!("/sys/dev/block/{major}:{minor}");
    // A partition has its disk's.
    let read = |path: &str| std::fs::read_to_string(format!("{directory}/{path}")).ok();
    let text = read("queue/logical_block_size").or_else(|| read("../queue/logical_block_size"))?;
    let size: u64 = text.trim().parse().ok()?;
    (size.is_power_of_two() && (SECTOR..=64 << 10).contains(&size)).then_some(size)
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

    /// The size of the sectors that a table of partitions counts in. A file does not say: there a
    /// The sector size follows from the place of GPT's header, the second sector.
    fn sector(&self) -> u64 {
        let is_gpt = |sector: u64| &self.bytes::<8>(sector) == b"EFI PART";
        match !is_gpt(SECTOR) && is_gpt(LARGE_SECTOR) {
            true => LARGE_SECTOR,
            false => SECTOR,
        }
    }

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
    // Missing bytes are zeros.
    let _ = file.read_exact_at(&mut bytes, at);
    bytes
}

/// A device opened for direct I/O: whole blocks into aligned memory.
struct Direct {
    file: File,
    sector: u64,
}

const BLOCK: usize = 4096;

impl Bytes for Direct {
    fn bytes<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut room = vec![0u8; 3 * BLOCK];
        let skip = room.as_ptr().align_offset(BLOCK).min(BLOCK);
        let first = at - at % BLOCK as u64;
        let offset = (at - first) as usize;
        let mut bytes = [0; N];
        if let Some(blocks) = room.get_mut(skip..skip + 2 * BLOCK) {
            let got = self.file.read_at(blocks, first).unwrap_or(0);
            if let Some(found) = blocks.get(offset..offset + N).filter(|_| offset + N <= got) {
                bytes.copy_from_slice(found);
            }
        }
        bytes
    }

    fn sector(&self) -> u64 {
        self.sector
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
    let sector = disk.sector();
    if &disk.bytes::<8>(sector) == b"EFI PART" {
        let table = disk.u64(sector + 72).saturating_mul(sector);
        let count = u64::from(disk.u32(sector + 80)).min(MAX_PARTITIONS);
        let size = u64::from(disk.u32(sector + 84)).clamp(128, 4096);
        let entry = |number: u64| {
            let at = table.checked_add((number - 1) * size)?;
            let used = disk.bytes::<16>(at) != [0; 16];
            used.then(|| Partition {
                number,
                start: disk.u64(at + 32).saturating_mul(sector),
                end: disk.u64(at + 40).saturating_add(1).saturating_mul(sector),
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
            start: start.saturating_mul(sector),
            end: start.saturating_add(count).saturating_mul(sector),
        })
    };
    (1..=4).filter_map(entry).collect()
}

/// The superblock of ext2, 3 and 4 (Documentation/filesystems/ext4/super.rst).
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
        // With a journal the flag "needs recovery" stands while it is mounted; without, "clean"
        // goes.
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
mod tests;
