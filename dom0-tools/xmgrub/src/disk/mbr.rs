//! The partition table in a disk's first sector, with the chain of logical partitions behind it. It
//! is four entries of 16 bytes; the crates for it read a chain without a limit.

use super::image::Window;
use super::table::Partition;

const SECTOR: u64 = 512;
/// Logical partitions that are looked at: a chain may be a loop.
const MOST_LOGICAL: u32 = 60;
/// Kinds of partitions that hold others.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// Behind this entry is a GUID partition table.
pub(super) const PROTECTIVE: u8 = 0xee;

/// One entry; sectors count from wherever the entry says.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) kind: u8,
    start: u32,
    sectors: u32,
}

/// The used entries of the table in a sector, by their place; None if there is no table.
pub(super) fn entries(disk: &Window, sector: u64) -> Option<Vec<(u32, Entry)>> {
    let mut bytes = [0; SECTOR as usize];
    disk.read_at(sector.checked_mul(SECTOR)?, &mut bytes).ok()?;
    if bytes.get(510..)? != [0x55, 0xaa] {
        return None;
    }
    let table = bytes.get(446..510)?.chunks_exact(16);
    let entries = table.zip(1..).filter_map(|(raw, number)| {
        // Anything else marks a boot sector of a file system, not a table.
        if !matches!(raw.first()?, 0 | 0x80) {
            return None;
        }
        let word = |at: usize| Some(u32::from_le_bytes(raw.get(at..at + 4)?.try_into().ok()?));
        let entry = Entry {
            kind: *raw.get(4)?,
            start: word(8)?,
            sectors: word(12)?,
        };
        (entry.kind != 0 && entry.sectors != 0).then_some((number, entry))
    });
    Some(entries.collect())
}

/// All partitions of a table, the logical ones numbered from 5.
pub(super) fn partitions(disk: &Window, primary: &[(u32, Entry)]) -> Vec<Partition> {
    let mut found = Vec::new();
    for (number, entry) in primary {
        if EXTENDED.contains(&entry.kind) {
            logical(disk, u64::from(entry.start), &mut found);
        } else {
            found.push(partition(*number, 0, *entry));
        }
    }
    found.sort_by_key(|partition| partition.number);
    found
}

fn partition(number: u32, base: u64, entry: Entry) -> Partition {
    Partition {
        number,
        // Both factors are small: a sector has 33 bits at most.
        start: (base + u64::from(entry.start)) * SECTOR,
        bytes: u64::from(entry.sectors) * SECTOR,
    }
}

/// Each link of the chain has one partition, counted from the link, and the next link, counted from
/// the first.
fn logical(disk: &Window, first: u64, found: &mut Vec<Partition>) {
    let mut link = first;
    for number in 5..5 + MOST_LOGICAL {
        let Some(entries) = entries(disk, link) else {
            return;
        };
        let mut next = None;
        for (_, entry) in entries {
            if EXTENDED.contains(&entry.kind) {
                next = next.or(Some(first + u64::from(entry.start)));
            } else {
                found.push(partition(number, link, entry));
            }
        }
        match next {
            Some(next) if next != link => link = next,
            _ => return,
        }
    }
}
