//! Files of an ext2, ext3 or ext4 file system, up to a size that the caller sets.

use super::image::Window;
use crate::{Error, Result};
use ext4_view::{Ext4, Ext4Error, Path};
use std::io::Write;

/// The largest configuration that is read.
pub const MAX_CONFIG: u64 = 1 << 20;
const CHUNK: usize = 1 << 16;

pub struct FileSystem(Ext4);

impl FileSystem {
    /// # Errors
    /// `Error` if there is no file system, or if it is damaged.
    pub fn open(window: Window) -> Result<Self> {
        Ext4::load(Box::new(window))
            .map(Self)
            .map_err(|error| Error::new(error.to_string()))
    }

    /// Whether there is a file of that name; with `filled`, one that is not empty.
    #[must_use]
    pub fn has_file(&self, path: &str, filled: bool) -> bool {
        let found = Path::try_from(path)
            .ok()
            .and_then(|path| self.0.metadata(path).ok());
        found.is_some_and(|found| !filled || found.len() > 0)
    }

    /// The file system's UUID in its usual spelling.
    #[must_use]
    pub fn uuid(&self) -> String {
        self.0.uuid().to_string()
    }

    #[must_use]
    pub fn label(&self) -> String {
        self.0.label().to_str().unwrap_or_default().to_owned()
    }

    /// A file as text; bytes that are none are replaced.
    ///
    /// # Errors
    /// `Error` if the file is missing, no regular file, too large, or cannot be read.
    pub fn read_text(&self, path: &str, most: u64) -> Result<String> {
        let mut bytes = Vec::new();
        self.copy(path, most, &mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A file's size.
    ///
    /// # Errors
    /// The file is missing, no regular file, or has more than `most` bytes.
    pub fn size(&self, path: &str, most: u64) -> Result<u64> {
        let failed = |cause: &dyn core::fmt::Display| Error::new(format!("{path}: {cause}"));
        let name = Path::try_from(path).map_err(|error| failed(&error))?;
        let found = self.0.metadata(name).map_err(|error| failed(&error))?;
        if found.is_dir() {
            return Err(failed(&"is a directory"));
        }
        if found.len() > most {
            let limit = format!(
                "has {} bytes, more than the {most} that are taken",
                found.len()
            );
            return Err(failed(&limit));
        }
        Ok(found.len())
    }

    /// Copies a file to `to`; returns its size.
    ///
    /// # Errors
    /// `Error` if the file is missing, no regular file, too large, or cannot be read or written.
    pub fn copy(&self, path: &str, most: u64, to: &mut dyn Write) -> Result<u64> {
        let failed = |cause: &dyn core::fmt::Display| Error::new(format!("{path}: {cause}"));
        let damaged = |error: Ext4Error| failed(&error);
        let size = self.size(path, most)?;
        let name = Path::try_from(path).map_err(|error| failed(&error))?;
        let mut file = self.0.open(name).map_err(damaged)?;
        let mut buffer = vec![0; CHUNK];
        let mut done = 0u64;
        // A read returns a block at most, and something unless the end is reached.
        while done < size {
            let count = file.read_bytes(&mut buffer).map_err(damaged)?;
            let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else {
                return Err(failed(&"ends too early"));
            };
            to.write_all(part).map_err(|error| failed(&error))?;
            done += count as u64;
        }
        Ok(done)
    }
}
