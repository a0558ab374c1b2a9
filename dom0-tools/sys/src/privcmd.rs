//! Hypercalls and foreign memory by `/dev/xen/privcmd` and `/dev/xen/hypercall`
//! (include/uapi/xen/privcmd.h).
//!
//! A hypercall is given addresses which the hypervisor reads and writes. They may only be those of
//! [`HypercallBuffer`]s: pages that the kernel keeps present (an absent page is -EFAULT) and that
//! hold no Rust object. A bare call is unsafe because structures may hold addresses that nobody
//! checks; the typed functions of [`crate::hypercall`] are the safe way.
#![expect(unsafe_code, reason = "ioctls that carry addresses")]

use core::mem::ManuallyDrop;
use core::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};

use crate::{Errno, PAGE_SIZE, Result, SharedMemory, ioctl};

/// The open devices.
#[derive(Debug)]
pub struct Privcmd {
    privcmd: OwnedFd,
    buffers: OwnedFd,
    /// Buffers of one page that are free: a mapping costs more than most hypercalls.
    free: Mutex<Vec<SharedMemory>>,
}

/// How many free buffers are kept.
const KEPT: usize = 8;

/// Memory that hypercalls may point at. When it is dropped, another call may have it.
#[derive(Debug)]
pub struct HypercallBuffer<'a> {
    memory: ManuallyDrop<SharedMemory>,
    free: &'a Mutex<Vec<SharedMemory>>,
}

impl Deref for HypercallBuffer<'_> {
    type Target = SharedMemory;

    fn deref(&self) -> &SharedMemory {
        &self.memory
    }
}

impl Drop for HypercallBuffer<'_> {
    fn drop(&mut self) {
        // SAFETY: it is taken once, here, and nobody looks at it afterwards.
        let memory = unsafe { ManuallyDrop::take(&mut self.memory) };
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.len() == PAGE_SIZE && free.len() < KEPT {
            free.push(memory);
        }
    }
}

/// One argument of a hypercall.
#[derive(Debug, Clone, Copy)]
pub enum Arg<'a> {
    Value(u64),
    Buffer(&'a SharedMemory),
}

#[repr(C)]
struct Hypercall {
    op: u64,
    arg: [u64; 5],
}

#[repr(C)]
struct MmapBatchV2 {
    num: u32,
    dom: u16,
    addr: u64,
    arr: *const u64,
    err: *mut i32,
}

#[repr(C)]
struct MmapResource {
    dom: u16,
    kind: u32,
    id: u32,
    idx: u32,
    num: u64,
    addr: u64,
}

impl Privcmd {
    /// Opens the devices; the caller must be root in dom0.
    pub fn open() -> Result<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        Ok(Self {
            privcmd: rustix::fs::open("/dev/xen/privcmd", flags, Mode::empty())?,
            buffers: rustix::fs::open("/dev/xen/hypercall", flags, Mode::empty())?,
            free: Mutex::new(Vec::new()),
        })
    }

    /// A buffer of `len` zeroed bytes, or more, that hypercalls may point at.
    pub fn buffer(&self, len: usize) -> Result<HypercallBuffer<'_>> {
        let free = || {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            free.pop()
        };
        let memory = match (len <= PAGE_SIZE).then(free).flatten() {
            Some(memory) => {
                memory.zero(0, len)?;
                memory
            }
            None => SharedMemory::map(self.buffers.as_fd(), len.max(1), 0, true)?,
        };
        Ok(HypercallBuffer {
            memory: ManuallyDrop::new(memory),
            free: &self.free,
        })
    }

    /// Calls the hypervisor. An error of the hypervisor comes back as its errno.
    ///
    /// # Safety
    /// Every address that `op` follows, at any depth, must lie in a live [`HypercallBuffer`] that
    /// is large enough for what `op` writes.
    pub unsafe fn hypercall(&self, op: u64, args: &[Arg<'_>]) -> Result<i64> {
        let mut call = Hypercall { op, arg: [0; 5] };
        for (slot, arg) in call.arg.iter_mut().zip(args) {
            *slot = match arg {
                Arg::Value(value) => *value,
                Arg::Buffer(buffer) => buffer.addr(),
            };
        }
        // SAFETY: the driver reads one `Hypercall`; the addresses in it are the caller's contract.
        let result = unsafe {
            ioctl::call(
                &self.privcmd,
                ioctl::number::<Hypercall>(b'P', 0),
                &mut call,
            )?
        };
        Ok(result.into())
    }

    /// Maps guest frames (`gfns`, in that order) of `domain`. All must be there. Map at most some
    /// tens of MiB at once: the kernel gives up as many frames of its own meanwhile.
    pub fn map_foreign(&self, domain: u16, gfns: &[u64]) -> Result<SharedMemory> {
        let len = gfns.len().checked_mul(PAGE_SIZE).ok_or(Errno::INVAL)?;
        let memory = SharedMemory::map(self.privcmd.as_fd(), len, 0, true)?;
        let mut errors = vec![0i32; gfns.len()];
        let mut batch = MmapBatchV2 {
            num: u32::try_from(gfns.len()).map_err(|_| Errno::INVAL)?,
            dom: domain,
            addr: memory.addr(),
            arr: gfns.as_ptr(),
            err: errors.as_mut_ptr(),
        };
        // SAFETY: `arr` and `err` have `num` elements, and `addr` is a fresh mapping of this device
        // of exactly `num` pages (the driver wants all of a mapping filled at once).
        unsafe {
            ioctl::call(
                &self.privcmd,
                ioctl::number::<MmapBatchV2>(b'P', 4),
                &mut batch,
            )?
        };
        if let Some(error) = errors.iter().find(|e| **e != 0) {
            return Err(Errno::from_raw_os_error(error.saturating_abs()));
        }
        Ok(memory)
    }

    /// Maps `frames` pages of a resource of `domain` (`XENMEM_resource_*`) from frame `first` on.
    pub fn map_resource(
        &self,
        domain: u16,
        kind: u32,
        id: u32,
        first: u32,
        frames: usize,
    ) -> Result<SharedMemory> {
        let len = frames.checked_mul(PAGE_SIZE).ok_or(Errno::INVAL)?;
        let memory = SharedMemory::map(self.privcmd.as_fd(), len, 0, true)?;
        let mut arg = MmapResource {
            dom: domain,
            kind,
            id,
            idx: first,
            num: frames as u64,
            addr: memory.addr(),
        };
        // SAFETY: `addr` is a fresh mapping of this device with `num` pages.
        unsafe {
            ioctl::call(
                &self.privcmd,
                ioctl::number::<MmapResource>(b'P', 7),
                &mut arg,
            )?
        };
        Ok(memory)
    }

    /// The number of frames of a resource, where the kernel knows it (Linux 5.15 and later).
    pub fn resource_size(&self, domain: u16, kind: u32, id: u32) -> Result<u64> {
        let mut arg = MmapResource {
            dom: domain,
            kind,
            id,
            idx: 0,
            num: 0,
            addr: 0,
        };
        // SAFETY: with neither address nor count the call only writes `num`.
        unsafe {
            ioctl::call(
                &self.privcmd,
                ioctl::number::<MmapResource>(b'P', 7),
                &mut arg,
            )?
        };
        Ok(arg.num)
    }
}
