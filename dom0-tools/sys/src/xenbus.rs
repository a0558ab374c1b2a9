//! The store's side of dom0's own ring: `/dev/xen/xenbus_backend`, else `/proc/xen/xsd_{kva,port}`.
#![expect(unsafe_code, reason = "ioctls")]

use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags};

use crate::{Errno, PAGE_SIZE, Result, SharedMemory, ioctl};

/// dom0's ring page and the port of dom0's kernel that waits for the store.
#[derive(Debug)]
pub struct OwnRing {
    pub memory: SharedMemory,
    pub remote_port: u32,
}

/// Maps the ring that dom0's kernel set up for a store daemon in dom0.
pub fn own_ring() -> Result<OwnRing> {
    backend_device().or_else(|_| proc_files())
}

fn backend_device() -> Result<OwnRing> {
    let fd = rustix::fs::open(
        "/dev/xen/xenbus_backend",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    // SAFETY: the call takes no argument and returns a port.
    let port = unsafe { ioctl::call(&fd, ioctl::number::<()>(b'B', 0), &mut ())? };
    let memory = SharedMemory::map(fd.as_fd(), PAGE_SIZE, 0, true)?;
    Ok(OwnRing {
        memory,
        remote_port: u32::try_from(port).map_err(|_| Errno::NODEV)?,
    })
}

fn proc_files() -> Result<OwnRing> {
    let port = std::fs::read_to_string("/proc/xen/xsd_port").map_err(|e| errno_of(&e))?;
    let remote_port = port.trim().parse().map_err(|_| Errno::NODEV)?;
    let fd = rustix::fs::open(
        "/proc/xen/xsd_kva",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let memory = SharedMemory::map(fd.as_fd(), PAGE_SIZE, 0, true)?;
    Ok(OwnRing {
        memory,
        remote_port,
    })
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
