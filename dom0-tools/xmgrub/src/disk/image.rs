//! Bytes of an image, read at given places and never beyond its end.

use crate::{Error, Result};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A disk image: a file or block device, or bytes.
#[derive(Clone)]
pub struct Image {
    source: Arc<dyn ReadAt>,
    len: u64,
}

/// A place to read bytes from.
trait ReadAt: Send + Sync {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let range = usize::try_from(offset)
            .ok()
            .and_then(|start| Some(start..start.checked_add(buffer.len())?));
        let found = range.and_then(|range| self.get(range));
        buffer.copy_from_slice(found.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl Image {
    /// A file or block device.
    ///
    /// # Errors
    /// `Error` if the size of the image cannot be determined.
    pub fn from_file(mut file: File) -> Result<Self> {
        let len = file.seek(SeekFrom::End(0)).map_err(|error| {
            Error::new(format!("the image's size cannot be found out: {error}"))
        })?;
        Ok(Self {
            source: Arc::new(file),
            len,
        })
    }

    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self {
            len: bytes.len() as u64,
            source: Arc::new(bytes),
        }
    }

    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A part of the image, cut at its end; `None` if the part begins beyond it.
    #[must_use]
    pub fn window(&self, start: u64, bytes: u64) -> Option<Window> {
        let len = self.len.checked_sub(start)?.min(bytes);
        (len > 0).then(|| Window {
            image: self.clone(),
            start,
            len,
            position: 0,
        })
    }
}

/// A part of an image, with a position of its own.
pub struct Window {
    image: Image,
    start: u64,
    len: u64,
    position: u64,
}

impl Window {
    #[must_use]
    pub fn whole(image: Image) -> Self {
        Self {
            len: image.len,
            start: 0,
            position: 0,
            image,
        }
    }

    /// Fills the buffer from a place in the window.
    ///
    /// # Errors
    /// `io::Error` if the range ends beyond the window, or cannot be read.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        // Within the image, whose length is a u64.
        self.image
            .source
            .read_exact_at(buffer, self.start.saturating_add(offset))
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.len.saturating_sub(self.position);
        let count = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let Some(part) = buffer.get_mut(..count) else {
            return Ok(0);
        };
        self.read_at(self.position, part)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or(ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl ext4_view::Ext4Read for Window {
    fn read(
        &mut self,
        start: u64,
        buffer: &mut [u8],
    ) -> core::result::Result<(), Box<dyn core::error::Error + Send + Sync>> {
        Ok(self.read_at(start, buffer)?)
    }
}
