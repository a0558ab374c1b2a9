//! Loop devices: files as block devices (include/uapi/linux/loop.h).
//!
//! A device made here clears itself when its last user closes it. So the process that makes one
//! keeps it open until the one it is meant for has opened it too; if the maker dies before, the
//! device goes with it.
#![expect(unsafe_code, reason = "ioctls")]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, open};
use rustix::ioctl::Opcode;

use crate::{Errno, Result, ioctl};

const CONFIGURE: Opcode = 0x4c0a;
const CTL_GET_FREE: Opcode = 0x4c82;

const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;

/// Another process may take the free device between the two calls.
const TRIES: u32 = 64;

/// `struct loop_info64`.
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// A loop device that we hold open.
#[derive(Debug)]
pub struct LoopDevice {
    fd: OwnedFd,
    number: u32,
}

impl LoopDevice {
    /// Makes a device of a file, with direct I/O where the file system can. The device holds the
    /// open file, its locks included. `label` is the name that `LOOP_GET_STATUS64` returns.
    ///
    /// # Errors
    /// `Errno` if there is no loop driver, no device is free, or the driver refuses the file.
    pub fn new(file: impl AsFd, read_only: bool, label: &str) -> Result<Self> {
        let control = open("/dev/loop-control", flags(), Mode::empty())?;
        let mut config = Config::new(file, read_only, label);
        for _ in 0..TRIES {
            // SAFETY: the call takes no argument; what it is given it does not look at.
            let number = unsafe { ioctl::call(&control, CTL_GET_FREE, &mut 0u32)? };
            let number = u32::try_from(number).map_err(|_| Errno::IO)?;
            let fd = open(path(number), flags(), Mode::empty())?;
            // SAFETY: the call reads one `loop_config`; the file it names is open.
            match unsafe { ioctl::call(&fd, CONFIGURE, &mut config) } {
                Ok(_) => return Ok(Self { fd, number }),
                Err(Errno::BUSY) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::BUSY)
    }

    /// The device's node under /dev.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        path(self.number)
    }
}

impl AsFd for LoopDevice {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Config {
    fn new(file: impl AsFd, read_only: bool, label: &str) -> Self {
        let mut file_name = [0; 64];
        // The last byte stays NUL.
        for (to, from) in file_name.iter_mut().take(63).zip(label.bytes()) {
            *to = from;
        }
        Self {
            fd: file.as_fd().as_raw_fd().unsigned_abs(),
            block_size: 0,
            info: Info {
                device: 0,
                inode: 0,
                rdevice: 0,
                offset: 0,
                size_limit: 0,
                number: 0,
                encrypt_type: 0,
                encrypt_key_size: 0,
                flags: AUTOCLEAR | DIRECT_IO | if read_only { READ_ONLY } else { 0 },
                file_name,
                crypt_name: [0; 64],
                encrypt_key: [0; 32],
                init: [0; 2],
            },
            reserved: [0; 8],
        }
    }
}

fn path(number: u32) -> PathBuf {
    format!("/dev/loop{number}").into()
}

fn flags() -> OFlags {
    OFlags::RDWR | OFlags::CLOEXEC
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_the_headers() {
        assert_eq!(size_of::<Info>(), 232);
        assert_eq!(size_of::<Config>(), 304);
    }

    #[test]
    fn a_label_is_cut_and_ended() {
        let file = std::fs::File::open("/dev/null").expect("it is there");
        let config = Config::new(&file, true, &"x".repeat(100));
        assert_eq!(config.info.file_name[62..], [b'x', 0]);
        assert_eq!(config.info.flags, 21);
    }
}
