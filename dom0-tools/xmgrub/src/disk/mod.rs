//! Partitions, and the file systems in them.

mod filesystem;
mod image;
mod mbr;
mod table;

pub use filesystem::{FileSystem, MAX_CONFIG};
pub use image::{Image, Window};
pub use table::{Partition, Table};

use crate::Result;

/// A disk with the file systems that could be read.
pub struct Disk {
    pub table: Option<Table>,
    pub volumes: Vec<Volume>,
}

/// A file system and where it lies.
pub struct Volume {
    /// None for a disk without partitions.
    pub partition: Option<Partition>,
    pub files: FileSystem,
}

impl Disk {
    /// Looks at all partitions, or at the whole disk if it has none.
    ///
    /// # Errors
    /// `Error` if the disk cannot be read, or if no file system on it can be.
    pub fn open(image: &Image) -> Result<Self> {
        let (table, partitions) = table::read(image)?;
        let mut volumes = Vec::new();
        let mut first_problem = None;
        let whole = Window::whole(image.clone());
        let places: Vec<(Option<Partition>, Window)> = if partitions.is_empty() {
            vec![(None, whole)]
        } else {
            partitions
                .into_iter()
                .filter_map(|part| Some((Some(part), image.window(part.start, part.bytes)?)))
                .collect()
        };
        for (partition, window) in places {
            match FileSystem::open(window) {
                Ok(files) => volumes.push(Volume { partition, files }),
                Err(error) => first_problem = first_problem.or(Some(error)),
            }
        }
        match first_problem {
            Some(error) if volumes.is_empty() => {
                Err(error.while_doing("no ext2, ext3 or ext4 file system can be read"))
            }
            _ => Ok(Self { table, volumes }),
        }
    }
}
