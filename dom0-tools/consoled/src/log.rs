//! The log of each guest's output: a file of bounded size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A log file. A full file is put aside, and replaces the previous one: at most twice the limit is
/// on disk.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    len: u64,
    limit: u64,
}

impl Log {
    /// Opens the log of a guest called `guest`. `taken` says which files belong to other guests; in
    /// that case the UUID becomes part of the name.
    pub(crate) fn open(
        dir: &Path,
        guest: &str,
        uuid: [u8; 16],
        limit: u64,
        taken: impl Fn(&Path) -> bool,
    ) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut path = dir.join(format!("guest-{}.log", file_name(guest)));
        if taken(&path) {
            let uuid = u128::from_be_bytes(uuid);
            path = dir.join(format!("guest-{}%{uuid:032x}.log", file_name(guest)));
        }
        let file = OpenOptions::new().append(true).create(true).open(&path)?;
        let len = file.metadata()?.len();
        Ok(Self {
            path,
            file,
            len,
            limit,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
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

/// A guest's name as part of a file's name: nothing in it leads elsewhere, and two names stay two.
/// A character that cannot stand in a file name becomes `%` and two hex digits. A name that gets
/// too long ends with `%%` and a number made from all of it.
fn file_name(guest: &str) -> String {
    /// A file's name has 255 bytes at most; a UUID and what stands around need 45.
    const MOST: usize = 200;
    let mut name = String::new();
    for c in guest.chars() {
        if c == '/' || c == '%' || c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                name.push_str(&format!("%{byte:02x}"));
            }
        } else {
            name.push(c);
        }
    }
    if name.len() <= MOST {
        return name;
    }
    let mut end = MOST - 18;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
    format!("{name}%%{:016x}", fnv(guest.as_bytes()))
}

/// The FNV-1a hash.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotates_and_stays_inside_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Log::open(dir.path(), "../a/b", [1; 16], 100, |_| false).unwrap();
        let mut log = open();
        for n in 0..25 {
            log.write(format!("line {n:04}\n").as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(
            read("guest-..%2fa%2fb.log").lines().next(),
            Some("line 0020")
        );
        assert_eq!(
            read("guest-..%2fa%2fb.log.1").lines().last(),
            Some("line 0019")
        );
        drop(log);
        let mut log = open();
        log.write(b"again\n").unwrap();
        assert!(read("guest-..%2fa%2fb.log").ends_with("line 0024\nagain\n"));
    }
    /// D13: each guest has a log of its own.
    #[test]
    fn two_names_never_share_a_file() {
        let long = |end: &str| format!("{}{end}", "x".repeat(250));
        let names = [
            "a/b",
            "a:b",
            "a_b",
            "a%2fb",
            "a%b",
            "a b",
            "ä",
            "%%",
            "a.log.1",
            "a",
            "a\n",
            &long("1"),
            &long("2"),
            &"/".repeat(128),
            &"/".repeat(127),
            &"ä".repeat(120),
        ];
        let mut files: Vec<String> = names.iter().map(|name| file_name(name)).collect();
        files.sort();
        for name in &files {
            assert!(name.len() <= 200 && !name.contains('/'), "{name}");
        }
        files.dedup();
        assert_eq!(files.len(), names.len());
        assert_eq!(file_name("web-1.example"), "web-1.example");
    }

    #[test]
    fn two_guests_of_one_name_have_two_logs() {
        let dir = tempfile::tempdir().unwrap();
        let one = Log::open(dir.path(), "a", [1; 16], 100, |_| false).unwrap();
        let two = Log::open(dir.path(), "a", [2; 16], 100, |path| path == one.path()).unwrap();
        assert_ne!(one.path(), two.path());
        assert!(two.path().to_string_lossy().contains("%0202"));
    }
}
