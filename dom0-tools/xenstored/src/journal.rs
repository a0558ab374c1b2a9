//! The records on disk (in fact in memory: /run), so that the daemon can die at any instant.
//!
//! One file. It begins with a line that names the format and the boot it belongs to; then frames
//! follow, each a length, a checksum and records. A frame is all or nothing: one that was
//! cut off by the daemon's death is dropped, and then nothing of it was told to anyone, because
//! answers leave after their frame is written. No sync is needed: what must be survived
//! is the death of the process; with the machine the guests die too.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::record::Record;

/// The file grows to this size, or to a few times its content, before it is written anew.
const COMPACT_AT: u64 = 1 << 20;
/// A frame's length and checksum.
const FRAME: usize = 8;

/// An open journal, which this process alone writes.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    head: String,
    len: u64,
    compact_at: u64,
    /// Holds the lock.
    _lock: File,
}

impl Journal {
    /// Opens the journal in `dir`, and gives the records of the daemon that ran before in this boot.
    pub fn open(dir: &Path) -> io::Result<(Self, Vec<Record>)> {
        fs::create_dir_all(dir)?;
        let lock = File::create(dir.join("lock"))?;
        take(&lock)?;
        let path = dir.join("journal");
        let head = head();
        let bytes = fs::read(&path).or_else(|e| {
            if e.kind() == io::ErrorKind::NotFound {
                Ok(vec![])
            } else {
                Err(e)
            }
        })?;
        let (records, len) = match bytes.strip_prefix(head.as_bytes()) {
            Some(frames) => {
                let (records, used) = read_frames(frames);
                (records, head.len().saturating_add(used))
            }
            None => (Vec::new(), 0),
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        file.set_len(len as u64)?;
        file.seek(SeekFrom::End(0))?;
        if len == 0 {
            file.write_all(head.as_bytes())?;
        }
        let len = len.max(head.len()) as u64;
        Ok((
            Self {
                path,
                file,
                head,
                len,
                compact_at: COMPACT_AT.max(len),
                _lock: lock,
            },
            records,
        ))
    }

    /// Writes records down, all or none.
    pub fn append(&mut self, records: &[Record]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let frame = frame(records)?;
        if let Err(error) = self.file.write_all(&frame) {
            // Nothing may follow a frame that is cut off.
            self.file.set_len(self.len)?;
            self.file.seek(SeekFrom::End(0))?;
            return Err(error);
        }
        self.len = self.len.saturating_add(frame.len() as u64);
        Ok(())
    }

    pub const fn wants_compaction(&self) -> bool {
        self.len >= self.compact_at
    }

    /// Begins anew with records that say all there is to say.
    pub fn replace(&mut self, records: &[Record]) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        let frame = frame(records)?;
        file.write_all(self.head.as_bytes())?;
        file.write_all(&frame)?;
        fs::rename(&new, &self.path)?;
        self.file = file;
        self.len = self.head.len().saturating_add(frame.len()) as u64;
        self.compact_at = COMPACT_AT.max(self.len.saturating_mul(4));
        Ok(())
    }
}

/// Takes the lock; a daemon that was just killed may take an instant to go.
fn take(lock: &File) -> io::Result<()> {
    const TRIES: u32 = 100;
    for _ in 0..TRIES {
        match rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK | Errno::INTR) => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        "another xenstored uses this directory",
    ))
}

/// The first line. Records of another boot are about domains that are no more.
fn head() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    format!("oxen xenstored journal 1 {}\n", boot.trim())
}

fn frame(records: &[Record]) -> io::Result<Vec<u8>> {
    let body = postcard::to_stdvec(records).map_err(io::Error::other)?;
    let len = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut frame = len.to_le_bytes().to_vec();
    frame.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// The records of all whole frames, and the bytes that those take.
fn read_frames(bytes: &[u8]) -> (Vec<Record>, usize) {
    let mut all = Vec::new();
    let mut used = 0;
    while let Some((records, len)) = bytes.get(used..).and_then(read_frame) {
        all.extend(records);
        used += len;
    }
    (all, used)
}

fn read_frame(bytes: &[u8]) -> Option<(Vec<Record>, usize)> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let end = FRAME.checked_add(usize::try_from(word(0)?).ok()?)?;
    let body = bytes.get(FRAME..end)?;
    if crc32fast::hash(body) != word(4)? {
        return None;
    }
    Some((postcard::from_bytes(body).ok()?, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: u16) -> Record {
        Record::Release { domain: n }
    }

    #[test]
    fn gives_back_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, old) = Journal::open(dir.path()).unwrap();
        assert!(old.is_empty());
        journal.append(&[record(1), record(2)]).unwrap();
        journal.append(&[record(3)]).unwrap();
        assert!(Journal::open(dir.path()).is_err(), "locked");
        drop(journal);
        let (mut journal, old) = Journal::open(dir.path()).unwrap();
        assert_eq!(old, [record(1), record(2), record(3)]);
        journal.replace(&[record(9)]).unwrap();
        journal.append(&[record(10)]).unwrap();
        drop(journal);
        assert_eq!(
            Journal::open(dir.path()).unwrap().1,
            [record(9), record(10)]
        );
    }

    #[test]
    fn drops_a_frame_that_was_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("journal");
        let (mut journal, _) = Journal::open(dir.path()).unwrap();
        journal.append(&[record(1)]).unwrap();
        let keep = fs::read(&file).unwrap().len();
        journal.append(&[record(2), record(3)]).unwrap();
        drop(journal);
        let whole = fs::read(&file).unwrap();
        for cut in keep..whole.len() {
            fs::write(&file, &whole[..cut]).unwrap();
            let (mut journal, old) = Journal::open(dir.path()).unwrap();
            assert_eq!(old, [record(1)], "cut at {cut}");
            journal.append(&[record(4)]).unwrap();
            drop(journal);
            assert_eq!(Journal::open(dir.path()).unwrap().1, [record(1), record(4)]);
        }
    }

    #[test]
    fn another_boot_is_another_story() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(
            dir.path().join("journal"),
            "oxen xenstored journal 1 some-other-boot\nxxxxxxxx",
        )
        .unwrap();
        assert!(Journal::open(dir.path()).unwrap().1.is_empty());
    }
}
