//! The end of a guest's output, for clients that connect later, and for the daemon's successor.
//!
//! The bytes are kept in a file too, which begins with the domain's UUID, so that the output of
//! another domain of the same number is recognised.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// The number of bytes that are kept.
const KEEP: usize = 64 * 1024;
/// The size at which the file is rewritten.
const FILE_MAX: u64 = 3 * KEEP as u64;

type Uuid = [u8; 16];

#[derive(Debug, Default)]
pub(crate) struct Replay {
    bytes: VecDeque<u8>,
    file: Option<(File, u64)>,
    /// Whether bytes are missing in the file.
    stale: bool,
    uuid: Uuid,
}

impl Replay {
    /// Opens the file with the last output of the domain that has this UUID. The file is empty if
    /// it is another domain's.
    pub(crate) fn open(path: &Path, uuid: Uuid) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let mut old = Vec::new();
        file.read_to_end(&mut old)?;
        let mut replay = Self {
            uuid,
            ..Self::default()
        };
        if let Some(printed) = old.strip_prefix(&uuid) {
            replay.keep(printed);
        }
        replay.file = Some((file, 0));
        replay.rewrite()?;
        Ok(replay)
    }

    /// Writes the bytes that were just kept. After a failure the whole file is rewritten.
    pub(crate) fn save(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some((file, len)) = &mut self.file else {
            return Ok(());
        };
        if self.stale || len.saturating_add(bytes.len() as u64) > FILE_MAX {
            return self.rewrite();
        }
        // Until it is all there.
        self.stale = true;
        file.write_all(bytes)?;
        *len = len.saturating_add(bytes.len() as u64);
        self.stale = false;
        Ok(())
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.bytes.iter().copied().collect()
    }

    /// Keeps the end of the output.
    pub(crate) fn keep(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(KEEP)..];
        let too_many = self
            .bytes
            .len()
            .saturating_add(bytes.len())
            .saturating_sub(KEEP);
        self.bytes.drain(..too_many);
        self.bytes.extend(bytes);
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let content = [self.uuid.to_vec(), self.bytes()].concat();
        let Some((file, len)) = &mut self.file else {
            return Ok(());
        };
        self.stale = true;
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&content)?;
        *len = content.len() as u64;
        self.stale = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_across_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("5.replay");
        let mut replay = Replay::open(&path, [1; 16]).unwrap();
        for n in 0..10_000 {
            let line = format!("a long enough line of number {n}\n");
            replay.keep(line.as_bytes());
            replay.save(line.as_bytes()).unwrap();
        }
        let bytes = replay.bytes();
        assert_eq!(bytes.len(), KEEP);
        assert!(bytes.ends_with(b"number 9999\n"));
        assert!(std::fs::metadata(&path).unwrap().len() <= FILE_MAX + 100);
        replay.keep(&[b'x'; 2 * KEEP]);
        replay.stale = true;
        replay.save(&[b'x'; 2 * KEEP]).unwrap();
        assert_eq!(replay.bytes(), [b'x'; KEEP]);
        assert_eq!(
            Replay::open(&path, [1; 16]).unwrap().bytes(),
            replay.bytes()
        );
        assert!(
            Replay::open(&path, [2; 16]).unwrap().bytes().is_empty(),
            "another domain"
        );
    }
}
