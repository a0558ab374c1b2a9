//! An image or block device of dom0: opened, and checked for faults that would be noticed only
//! later.

use super::content;
use oxen_config::{DiskAccess, DiskFormat, DiskSpec};
use oxen_domain::{Error, Result};
use rustix::fs::{FileType, FlockOperation, OFlags, Stat, flock};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The identity of an image: equal for two names of the same file or device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity {
    Device(u64),
    File { device: u64, inode: u64 },
}

impl Identity {
    pub(super) fn of(path: &Path) -> rustix::io::Result<Self> {
        rustix::fs::stat(path).map(|stat| Self::from(&stat))
    }

    fn from(stat: &Stat) -> Self {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::BlockDevice => Self::Device(stat.st_rdev),
            _ => Self::File {
                device: stat.st_dev,
                inode: stat.st_ino,
            },
        }
    }
}

/// An open image.
#[derive(Debug)]
pub(super) struct Image {
    path: PathBuf,
    file: File,
    identity: Identity,
}

impl Image {
    /// Opens an image. Warnings about its content are added to `warnings`.
    ///
    /// # Errors
    /// `Error` if the image is missing, in use, empty, or of another format than the description
    /// says.
    pub(super) fn open(spec: &DiskSpec, warnings: &mut Vec<String>) -> Result<Self> {
        let path = PathBuf::from(&spec.target);
        let what = format!("cannot use {}", spec.target);
        let fail = |cause: &dyn core::fmt::Display| Error::new(&what, cause);
        if !path.is_absolute() {
            return Err(fail(&"the path is not absolute").remedy("say target=/..."));
        }
        let stat = rustix::fs::stat(&path).map_err(|errno| fail(&errno_text(errno)))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if !matches!(kind, FileType::RegularFile | FileType::BlockDevice) {
            return Err(fail(&"it is neither a file nor a block device"));
        }
        let write = spec.access == DiskAccess::Rw;
        let block = kind == FileType::BlockDevice;
        // Opening a block device exclusively fails if dom0 has it mounted or built something upon
        // it.
        let exclusive = if block && write && !spec.shared {
            OFlags::EXCL
        } else {
            OFlags::empty()
        };
        let file = File::options()
            .read(true)
            .write(write)
            .custom_flags(exclusive.bits().cast_signed())
            .open(&path)
            .map_err(|error| {
                match error
                    .raw_os_error()
                    .map(rustix::io::Errno::from_raw_os_error)
                {
                    Some(rustix::io::Errno::BUSY) => fail(&"dom0 itself uses it")
                        .remedy("unmount it (lsblk shows what is upon it), or give it with w!"),
                    Some(errno) => fail(&errno_text(errno)),
                    None => fail(&error),
                }
            })?;
        let image = Self {
            path,
            file,
            identity: Identity::from(&stat),
        };
        // The content of a block device is its users' affair, whatever it is.
        if !block {
            image.lock(spec, write).map_err(|()| {
                fail(&"another program has locked it").remedy("lslocks shows which")
            })?;
            let told = content::check(&image.file, spec).map_err(|cause| fail(&cause))?;
            warnings.extend(told.map(|text| format!("{}: {text}", spec.target)));
        }
        Ok(image)
    }

    /// The lock is the open file's: a loop device that is made of it keeps it.
    fn lock(&self, spec: &DiskSpec, write: bool) -> core::result::Result<(), ()> {
        // qemu has its own locks on the images that it opens.
        if spec.shared || spec.format != DiskFormat::Raw {
            return Ok(());
        }
        let kind = match write {
            true => FlockOperation::NonBlockingLockExclusive,
            false => FlockOperation::NonBlockingLockShared,
        };
        flock(&self.file, kind).map_err(drop)
    }

    pub(super) fn is_block(&self) -> bool {
        matches!(self.identity, Identity::Device(_))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

fn errno_text(errno: rustix::io::Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    text.split(" (os error")
        .next()
        .unwrap_or(&text)
        .to_lowercase()
}

#[cfg(test)]
mod tests;
