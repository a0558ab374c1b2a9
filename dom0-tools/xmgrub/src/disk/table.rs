//! Partition tables: GUID tables by the `gpt` crate, older ones by [`mbr`].

use super::image::{Image, Window};
use super::mbr;
use crate::Result;
use gpt::disk::LogicalBlockSize;

/// Limits that the crate `gpt` does not check, or checks only after it has allocated.
const MOST_PARTITIONS: u32 = 256;
const ENTRY_SIZE: u32 = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    Gpt,
    Mbr,
}

impl Table {
    /// GRUB's word for it, as in (hd0,gpt1).
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Gpt => "gpt",
            Self::Mbr => "msdos",
        }
    }
}

/// Where a partition lies, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// From 1, as in the kernel's names.
    pub number: u32,
    pub start: u64,
    pub bytes: u64,
}

/// The partitions by number; none if the disk has no table.
pub(super) fn read(image: &Image) -> Result<(Option<Table>, Vec<Partition>)> {
    let disk = Window::whole(image.clone());
    let Some(primary) = mbr::entries(&disk, 0) else {
        return Ok((None, Vec::new()));
    };
    if primary
        .iter()
        .any(|(_, entry)| entry.kind == mbr::PROTECTIVE)
    {
        let sizes = [LogicalBlockSize::Lb512, LogicalBlockSize::Lb4096];
        let found = sizes.into_iter().find_map(|size| gpt_table(image, size));
        return match found {
            Some(partitions) => Ok((Some(Table::Gpt), partitions)),
            None => Err(crate::Error::new("its GUID partition table is damaged")),
        };
    }
    let partitions = mbr::partitions(&disk, &primary);
    let table = (!partitions.is_empty()).then_some(Table::Mbr);
    Ok((table, partitions))
}

fn gpt_table(image: &Image, size: LogicalBlockSize) -> Option<Vec<Partition>> {
    let mut disk = Window::whole(image.clone());
    let header = gpt::header::read_header_from_arbitrary_device(&mut disk, size).ok()?;
    if header.part_size != ENTRY_SIZE || header.num_parts > MOST_PARTITIONS {
        return None;
    }
    let table = gpt::partition::file_read_partitions(&mut disk, &header, size).ok()?;
    let block = u64::from(size);
    let partitions = table.into_iter().filter_map(|(number, partition)| {
        let blocks = partition.last_lba.checked_sub(partition.first_lba)?;
        Some(Partition {
            number,
            start: partition.first_lba.checked_mul(block)?,
            bytes: blocks.checked_add(1)?.checked_mul(block)?,
        })
    });
    Some(partitions.collect())
}
