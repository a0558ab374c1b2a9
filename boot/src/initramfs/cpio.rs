//! A writer for the "newc" archives that the kernel unpacks
//! (Documentation/driver-api/early-userspace/buffer-format).
//!
//! Written by hand because device nodes must go in without root. Directories are made on the way.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

const DIRECTORY: u32 = 0o040_755;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_777;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive in the making. Paths are relative, without a leading slash.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    inode: u32,
    directories: BTreeSet<String>,
}

impl Archive {
    pub(crate) fn directory(&mut self, path: &str) -> Result<()> {
        self.parents(path)?;
        if self.directories.insert(path.to_owned()) {
            self.entry(path, DIRECTORY, (0, 0), &[])?;
        }
        Ok(())
    }

    pub(crate) fn file(&mut self, path: &str, executable: bool, data: &[u8]) -> Result<()> {
        self.parents(path)?;
        let mode = if executable { 0o755 } else { 0o644 };
        self.entry(path, REGULAR | mode, (0, 0), data)
    }

    /// A copy of a file of this machine.
    pub(crate) fn copy(&mut self, path: &str, from: &Path) -> Result<()> {
        let read = || -> std::io::Result<_> {
            Ok((fs::read(from)?, fs::metadata(from)?.permissions().mode()))
        };
        let (data, mode) = read().with_context(|| format!("cannot read {}", from.display()))?;
        self.file(path, mode & 0o100 != 0, &data)
    }

    pub(crate) fn symlink(&mut self, path: &str, target: &str) -> Result<()> {
        self.parents(path)?;
        self.entry(path, SYMLINK, (0, 0), target.as_bytes())
    }

    pub(crate) fn character_device(&mut self, path: &str, major: u32, minor: u32) -> Result<()> {
        self.parents(path)?;
        self.entry(path, CHARACTER_DEVICE, (major, minor), &[])
    }

    /// The finished archive.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>> {
        self.inode = 0;
        self.header("TRAILER!!!", 0, (0, 0), 0)?;
        self.pad(512);
        Ok(self.bytes)
    }

    fn parents(&mut self, path: &str) -> Result<()> {
        match path.rsplit_once('/') {
            Some((parent, _)) if !self.directories.contains(parent) => self.directory(parent),
            _ => Ok(()),
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), data: &[u8]) -> Result<()> {
        self.inode += 1;
        self.header(path, mode, device, data.len())?;
        self.bytes.extend(data);
        self.pad(4);
        Ok(())
    }

    fn header(&mut self, path: &str, mode: u32, device: (u32, u32), size: usize) -> Result<()> {
        let size =
            u32::try_from(size).with_context(|| format!("{path} is too large for an archive"))?;
        let name = u32::try_from(path.len() + 1)?;
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        // inode, mode, uid, gid, links, mtime, size, device of the file (2), device of the node
        // (2), name, checksum
        let fields = [
            self.inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name, 0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(path.bytes());
        self.bytes.push(0);
        self.pad(4);
        Ok(())
    }

    fn pad(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn every_entry_is_aligned_and_parents_come_first() {
        let mut archive = Archive::default();
        archive.file("a/b/file", true, b"12345").expect("room");
        archive.file("a/b/other", false, b"").expect("room");
        let bytes = archive.finish().expect("a trailer");
        let starts: Vec<_> = bytes
            .windows(6)
            .enumerate()
            .filter(|(_, w)| w == b"070701")
            .map(|(at, _)| at)
            .collect();
        assert!(starts.iter().all(|at| at % 4 == 0));
        let name = |at: usize| {
            bytes[at + 110..]
                .split(|byte| *byte == 0)
                .next()
                .map(String::from_utf8_lossy)
        };
        let names: Vec<_> = starts.iter().filter_map(|at| name(*at)).collect();
        assert_eq!(names, ["a", "a/b", "a/b/file", "a/b/other", "TRAILER!!!"]);
    }

    #[test]
    fn another_program_reads_it() {
        let Ok(mut cpio) = Command::new("busybox")
            .args(["cpio", "-t"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
        else {
            eprintln!("skipped: no busybox here");
            return;
        };
        let mut archive = Archive::default();
        archive.character_device("dev/console", 5, 1).expect("room");
        archive.symlink("sbin", "bin").expect("room");
        let bytes = archive.finish().expect("a trailer");
        cpio.stdin
            .take()
            .expect("a pipe")
            .write_all(&bytes)
            .expect("it reads");
        let output = cpio.wait_with_output().expect("it ends");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "dev\ndev/console\nsbin\n"
        );
    }
}
