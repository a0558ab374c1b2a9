//! The records on disk (in fact in memory: /run), so that the daemon can die at any instant.
//!
//! One file. It begins with a line that names the format and the boot it belongs to; then frames
//! follow, each a length, a checksum and records. A frame is all or nothing: one that was cut off
//! by the daemon's death is dropped, and nobody has heard of it, because replies leave after their
//! frame is written. No sync is needed: what must be survived is the death of the process; with the
//! machine the guests die too.
//!
//! A frame must never follow a hole. So a journal that could not be written is *stale*: nothing is
//! appended to it any more, until all there is to say was written as a new file. A daemon that dies
//! before that finds the state of before the first failure, which is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oxen_sys::daemon;

use crate::record::Record;

/// The least size at which the file is rewritten; a large store lets it grow to a few times its
/// content.
const COMPACT_AT: u64 = 1 << 20;
/// A frame's length and checksum.
const FRAME: usize = 8;
/// The pause before the first retry of a write that failed; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The first words of a journal: today's, and those of formats that are still read.
const FORMATS: [(&str, Format); 2] = [
    ("oxen xenstored journal 2", Format::Current),
    ("oxen xenstored journal 1", Format::WorldReadable),
];

/// The format of a journal's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Current,
    /// The first one: the root was readable by every domain, and so was what inherited from it.
    WorldReadable,
}

/// The records that the previous daemon left.
#[derive(Debug)]
pub struct Found {
    pub records: Vec<Record>,
    pub format: Format,
    /// Frames whose checksum or content is wrong. They were left out.
    pub damaged: usize,
}

/// The outcome of a write.
#[derive(Debug)]
pub enum Saved {
    /// The records are written.
    Written,
    /// The records are written, after a time in which nothing could be.
    Again,
    /// The records are written, but the file cannot be made smaller.
    Large(io::Error),
    /// Nothing can be written: from now on the journal is stale.
    Failed(io::Error),
    /// As before: the journal is stale.
    Stale,
}

/// An open journal, which this process alone writes.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    head: String,
    len: u64,
    compact_at: u64,
    /// Something is missing at the end of the file: only a new file can follow.
    stale: bool,
    /// After a failure: when to write a new file the next time.
    pause: Option<Pause>,
    /// Holds the lock.
    _lock: File,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Instant,
    length: Duration,
}

impl Journal {
    /// Opens the journal in `dir`, and gives the records of the daemon that ran before in this
    /// boot.
    pub fn open(dir: &Path) -> io::Result<(Self, Found)> {
        fs::create_dir_all(dir)?;
        let lock = daemon::lock(&dir.join("lock"), daemon::PREDECESSOR)?.ok_or_else(|| {
            let text = "another xenstored uses this directory";
            io::Error::new(io::ErrorKind::AddrInUse, text)
        })?;
        let path = dir.join("journal");
        let bytes = fs::read(&path).or_else(|e| {
            if e.kind() == io::ErrorKind::NotFound {
                Ok(vec![])
            } else {
                Err(e)
            }
        })?;
        let (found, len) = read(&bytes);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        file.set_len(len as u64)?;
        file.seek(SeekFrom::End(0))?;
        let head = head(FORMATS[0].0);
        let mut stale = found.damaged > 0;
        if len == 0 {
            // A full file system must not keep the daemon from starting.
            stale |= file.write_all(head.as_bytes()).is_err();
        }
        let len = len.max(head.len()) as u64;
        let journal = Self {
            path,
            file,
            head,
            len,
            compact_at: COMPACT_AT.max(len),
            stale,
            pause: None,
            _lock: lock,
        };
        Ok((journal, found))
    }

    /// Writes down `records`, which say what changed since the last call. `all` gives the records
    /// that say all there is to say, for when the file is rewritten.
    pub fn save(
        &mut self,
        records: &[Record],
        all: impl FnOnce() -> Vec<Record>,
        now: Instant,
    ) -> Saved {
        let may_replace = self.pause.is_none_or(|pause| pause.until <= now);
        if self.stale {
            return match may_replace.then(|| self.replace(&all())) {
                Some(Ok(())) => Saved::Again,
                Some(Err(_)) => {
                    self.pause_from(now);
                    Saved::Stale
                }
                None => Saved::Stale,
            };
        }
        if !self.wants_compaction() || !may_replace {
            return match self.append(records) {
                Ok(()) => Saved::Written,
                Err(_) => self.replace_or_fail(&all(), now),
            };
        }
        match self.replace(&all()) {
            Ok(()) => Saved::Written,
            Err(error) => {
                self.pause_from(now);
                match self.append(records) {
                    Ok(()) => Saved::Large(error),
                    Err(error) => Saved::Failed(error),
                }
            }
        }
    }

    /// Writes the records with which the daemon begins.
    pub fn begin(&mut self, all: &[Record], now: Instant) -> Saved {
        self.stale = true;
        self.replace_or_fail(all, now)
    }

    /// Rewrites the file with the records that `append` could not write.
    fn replace_or_fail(&mut self, all: &[Record], now: Instant) -> Saved {
        match self.replace(all) {
            Ok(()) => Saved::Written,
            Err(error) => {
                self.pause_from(now);
                Saved::Failed(error)
            }
        }
    }

    fn pause_from(&mut self, now: Instant) {
        let length = self
            .pause
            .map_or(FIRST_PAUSE, |pause| pause.length.saturating_mul(2))
            .min(LONGEST_PAUSE);
        self.pause = Some(Pause {
            until: now + length,
            length,
        });
    }

    /// When a stale journal is to be written again, even if nothing changes until then.
    pub fn retry_at(&self) -> Option<Instant> {
        self.pause.filter(|_| self.stale).map(|pause| pause.until)
    }

    /// Writes records down, all or none. After a failure the journal is stale.
    fn append(&mut self, records: &[Record]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let written = frame(records).and_then(|frame| {
            self.file.write_all(&frame)?;
            Ok(frame.len() as u64)
        });
        match written {
            Ok(len) => {
                self.len = self.len.saturating_add(len);
                Ok(())
            }
            Err(error) => {
                self.stale = true;
                // Gives back the space of a frame that was cut off. A reader would drop it anyway.
                let _ = self.file.set_len(self.len);
                let _ = self.file.seek(SeekFrom::End(0));
                Err(error)
            }
        }
    }

    const fn wants_compaction(&self) -> bool {
        self.len >= self.compact_at
    }

    /// Replaces the file by one with records that describe the whole store.
    fn replace(&mut self, records: &[Record]) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let written = self.write_new(&new, records);
        match written {
            Ok((file, len)) => {
                self.file = file;
                self.len = len;
                self.compact_at = COMPACT_AT.max(self.len.saturating_mul(4));
                self.stale = false;
                self.pause = None;
                Ok(())
            }
            Err(error) => {
                // Half a file would keep the space that the next try needs.
                let _ = fs::remove_file(&new);
                Err(error)
            }
        }
    }

    fn write_new(&self, new: &Path, records: &[Record]) -> io::Result<(File, u64)> {
        let mut file = File::create(new)?;
        let frame = frame(records)?;
        file.write_all(self.head.as_bytes())?;
        file.write_all(&frame)?;
        fs::rename(new, &self.path)?;
        Ok((file, self.head.len().saturating_add(frame.len()) as u64))
    }
}

/// The first line. Records of another boot are about domains that are no more.
fn head(format: &str) -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    format!("{format} {}\n", boot.trim())
}

fn frame(records: &[Record]) -> io::Result<Vec<u8>> {
    let body = postcard::to_stdvec(records).map_err(io::Error::other)?;
    let len = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut frame = len.to_le_bytes().to_vec();
    frame.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// The records of a whole file, and its length without a frame that is cut off at the end.
fn read(bytes: &[u8]) -> (Found, usize) {
    for (words, format) in FORMATS {
        let head = head(words);
        if let Some(frames) = bytes.strip_prefix(head.as_bytes()) {
            let (records, damaged, used) = read_frames(frames);
            let found = Found {
                records,
                format,
                damaged,
            };
            return (found, head.len().saturating_add(used));
        }
    }
    let found = Found {
        records: Vec::new(),
        format: Format::Current,
        damaged: 0,
    };
    (found, 0)
}

/// The records of all whole frames, the number of those that are damaged, and the bytes of both.
fn read_frames(bytes: &[u8]) -> (Vec<Record>, usize, usize) {
    let (mut all, mut damaged, mut used) = (Vec::new(), 0, 0);
    while let Some((body, sum, len)) = bytes.get(used..).and_then(split_frame) {
        let whole = crc32fast::hash(body) == sum;
        match whole.then(|| postcard::from_bytes::<Vec<Record>>(body)) {
            Some(Ok(records)) => all.extend(records),
            Some(Err(_)) | None => damaged += 1,
        }
        used += len;
    }
    (all, damaged, used)
}

/// The body of the first frame, its checksum, and the bytes of the frame.
fn split_frame(bytes: &[u8]) -> Option<(&[u8], u32, usize)> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let end = FRAME.checked_add(usize::try_from(word(0)?).ok()?)?;
    Some((bytes.get(FRAME..end)?, word(4)?, end))
}

#[cfg(test)]
mod tests;
