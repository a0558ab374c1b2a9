//! Pages that other domains granted to us, by `/dev/xen/gntdev` (include/uapi/xen/gntdev.h).
#![expect(unsafe_code, reason = "ioctls")]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use crate::{Errno, PAGE_SIZE, Result, SharedMemory, ioctl};

/// An open grant device.
#[derive(Debug, Clone)]
pub struct Gntdev {
    fd: Arc<OwnedFd>,
}

/// Granted pages, mapped; dropping it unmaps them and gives the grants back.
#[derive(Debug)]
pub struct GrantMapping {
    /// An Option so that the drop can unmap first: the driver refuses to forget mapped grants.
    memory: Option<SharedMemory>,
    fd: Arc<OwnedFd>,
    index: u64,
    count: u32,
}

/// `ioctl_gntdev_map_grant_ref` for one grant.
#[repr(C)]
struct MapOne {
    count: u32,
    pad: u32,
    index: u64,
    domid: u32,
    grant_ref: u32,
}

/// The driver sizes the number by its declaration, which has one reference.
const MAP: rustix::ioctl::Opcode = ioctl::number::<MapOne>(b'G', 0);

#[repr(C)]
struct Unmap {
    index: u64,
    count: u32,
    pad: u32,
}

impl Gntdev {
    pub fn open() -> Result<Self> {
        let fd = rustix::fs::open(
            "/dev/xen/gntdev",
            OFlags::RDWR | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(Self { fd: Arc::new(fd) })
    }

    /// Maps one page which `domain` granted as `grant_ref`.
    pub fn map(&self, domain: u16, grant_ref: u32, writable: bool) -> Result<GrantMapping> {
        let mut arg = MapOne {
            count: 1,
            pad: 0,
            index: 0,
            domid: domain.into(),
            grant_ref,
        };
        // SAFETY: the call reads `count` (one) references that follow, and writes `index`.
        unsafe { ioctl::call(&self.fd, MAP, &mut arg)? };
        let mut mapping = GrantMapping {
            memory: None,
            fd: Arc::clone(&self.fd),
            index: arg.index,
            count: 1,
        };
        mapping.memory = Some(SharedMemory::map(
            self.fd.as_fd(),
            PAGE_SIZE,
            arg.index,
            writable,
        )?);
        Ok(mapping)
    }
}

impl GrantMapping {
    pub fn memory(&self) -> Result<&SharedMemory> {
        self.memory.as_ref().ok_or(Errno::FAULT)
    }
}

impl Drop for GrantMapping {
    fn drop(&mut self) {
        self.memory = None;
        let mut arg = Unmap {
            index: self.index,
            count: self.count,
            pad: 0,
        };
        // SAFETY: the call reads one structure without addresses. The memory is unmapped already. A
        // failure would only keep the driver's bookkeeping until the device is closed.
        let _ = unsafe { ioctl::call(&self.fd, ioctl::number::<Unmap>(b'G', 1), &mut arg) };
    }
}
