//! What each guest prints, in a file of bounded size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A log file, which is put aside once when it is full: at most twice the limit is on disk.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    len: u64,
    limit: u64,
}

impl Log {
    pub(crate) fn open(dir: &Path, guest: &str, limit: u64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let path = dir.join(format!("guest-{}.log", file_name(guest)));
        let file = OpenOptions::new().append(true).create(true).open(&path)?;
        let len = file.metadata()?.len();
        Ok(Self {
            path,
            file,
            len,
            limit,
        })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.len.saturating_add(bytes.len() as u64) > self.limit {
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
            self.file = OpenOptions::new()
                .append(true)
                .create(true)
                .open(&self.path)?;
            self.len = 0;
        }
        self.file.write_all(bytes)?;
        self.len = self.len.saturating_add(bytes.len() as u64);
        Ok(())
    }
}

/// A guest's name as part of a file's: nothing in it leads elsewhere.
fn file_name(guest: &str) -> String {
    let good = |c: char| c.is_alphanumeric() || "-_.+".contains(c);
    guest
        .chars()
        .take(64)
        .map(|c| if good(c) { c } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotates_and_stays_inside_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(dir.path(), "../a/b", 100).unwrap();
        for n in 0..25 {
            log.write(format!("line {n:04}\n").as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("guest-.._a_b.log").lines().next(), Some("line 0020"));
        assert_eq!(read("guest-.._a_b.log.1").lines().last(), Some("line 0019"));
        drop(log);
        let mut log = Log::open(dir.path(), "../a/b", 100).unwrap();
        log.write(b"again\n").unwrap();
        assert!(read("guest-.._a_b.log").ends_with("line 0024\nagain\n"));
    }
}
