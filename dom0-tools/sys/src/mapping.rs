//! Memory that another party can write at any time: guests' pages, rings, hypercall buffers.
//!
//! Invariants: a mapping stays mapped until dropped; every access is bounds-checked and volatile,
//! and copies: no reference into the memory ever leaves this module, so what was read once cannot
//! change under the reader.
#![expect(
    unsafe_code,
    reason = "mmap, and volatile access to memory that is shared with others"
)]

use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering, fence};
use std::os::fd::{AsFd, BorrowedFd};

use bytemuck::Pod;
use rustix::mm::{MapFlags, ProtFlags};

use crate::{Errno, PAGE_SIZE, Result};

/// A range of mapped pages. Dropping it unmaps them.
#[derive(Debug)]
pub struct SharedMemory {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread; it is owned exclusively.
unsafe impl Send for SharedMemory {}

/// The index range was outside the mapping: the caller's offset was wrong.
const OUTSIDE: Errno = Errno::RANGE;

impl SharedMemory {
    /// Maps `len` bytes (rounded up to pages) of the device `fd` at `offset`, shared.
    pub(crate) fn map(fd: BorrowedFd<'_>, len: usize, offset: u64, writable: bool) -> Result<Self> {
        let prot = if writable {
            ProtFlags::READ | ProtFlags::WRITE
        } else {
            ProtFlags::READ
        };
        let len = whole_pages(len)?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe {
            rustix::mm::mmap(
                core::ptr::null_mut(),
                len,
                prot,
                MapFlags::SHARED,
                fd.as_fd(),
                offset,
            )?
        };
        Self::from_raw(base, len)
    }

    /// Fresh zeroed memory of our own, for tests and for what needs no device.
    pub fn anonymous(len: usize) -> Result<Self> {
        let len = whole_pages(len)?;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: as in `map`.
        let base = unsafe {
            rustix::mm::mmap_anonymous(core::ptr::null_mut(), len, prot, MapFlags::SHARED)?
        };
        Self::from_raw(base, len)
    }

    fn from_raw(base: *mut c_void, len: usize) -> Result<Self> {
        Ok(Self {
            base: NonNull::new(base.cast()).ok_or(Errno::NOMEM)?,
            len,
        })
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The address, for the structures of ioctls and hypercalls only.
    pub(crate) fn addr(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// The start of `len` bytes at `offset`, if they are all inside.
    fn at(&self, offset: usize, len: usize) -> Result<*mut u8> {
        let end = offset.checked_add(len).ok_or(OUTSIDE)?;
        if end > self.len {
            return Err(OUTSIDE);
        }
        // SAFETY: `offset <= end <= len`, so the result stays inside the mapping or at its end.
        Ok(unsafe { self.base.as_ptr().add(offset) })
    }

    /// Copies `into.len()` bytes at `offset` out.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result<()> {
        let from = self.at(offset, into.len())?;
        copy(into.len(), from as usize, |i, word| {
            // SAFETY: `copy` gives indices below the length (eight bytes before its end for a
            // word); `at` checked that many bytes; alignment of words is `copy`'s.
            unsafe {
                if word {
                    let value = from.add(i).cast::<u64>().read_volatile();
                    into.as_mut_ptr()
                        .add(i)
                        .cast::<u64>()
                        .write_unaligned(value);
                } else {
                    into.as_mut_ptr().add(i).write(from.add(i).read_volatile());
                }
            }
        });
        Ok(())
    }

    /// Copies `from` in at `offset`.
    pub fn write(&self, offset: usize, from: &[u8]) -> Result<()> {
        let to = self.at(offset, from.len())?;
        copy(from.len(), to as usize, |i, word| {
            // SAFETY: as in `read`.
            unsafe {
                if word {
                    let value = from.as_ptr().add(i).cast::<u64>().read_unaligned();
                    to.add(i).cast::<u64>().write_volatile(value);
                } else {
                    to.add(i).write_volatile(*from.as_ptr().add(i));
                }
            }
        });
        Ok(())
    }

    /// Zeroes `len` bytes at `offset`.
    pub fn zero(&self, offset: usize, len: usize) -> Result<()> {
        let to = self.at(offset, len)?;
        copy(len, to as usize, |i, word| {
            // SAFETY: as in `read`.
            unsafe {
                if word {
                    to.add(i).cast::<u64>().write_volatile(0);
                } else {
                    to.add(i).write_volatile(0);
                }
            }
        });
        Ok(())
    }

    /// Copies one plain structure out.
    pub fn get<T: Pod>(&self, offset: usize) -> Result<T> {
        let mut value = T::zeroed();
        self.read(offset, bytemuck::bytes_of_mut(&mut value))?;
        Ok(value)
    }

    /// Copies one plain structure in.
    pub fn put<T: Pod>(&self, offset: usize, value: &T) -> Result<()> {
        self.write(offset, bytemuck::bytes_of(value))
    }

    /// Reads an index or flag that the other side publishes: what it wrote before is seen after.
    pub fn load(&self, offset: usize) -> Result<u32> {
        Ok(self.atomic(offset)?.load(Ordering::Acquire))
    }

    /// Publishes an index or flag: what we wrote before is seen by who reads it.
    pub fn store(&self, offset: usize, value: u32) -> Result<()> {
        self.atomic(offset)?.store(value, Ordering::Release);
        Ok(())
    }

    fn atomic(&self, offset: usize) -> Result<&AtomicU32> {
        if !offset.is_multiple_of(size_of::<u32>()) {
            return Err(Errno::INVAL);
        }
        let at = self.at(offset, size_of::<u32>())?;
        // SAFETY: in bounds and aligned (the base is page-aligned), and lives as long as `self`.
        Ok(unsafe { AtomicU32::from_ptr(at.cast()) })
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: the range is our own mapping and nothing borrowed outlives `self`.
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "munmap of our own mapping");
    }
}

/// A full barrier: our stores before it are seen before our loads after it are done. Rings need it
/// between publishing an index and looking at the other side's.
pub fn barrier() {
    fence(Ordering::SeqCst);
}

/// Steps through `len` bytes at address `shared`: single bytes up to alignment, words, then the
/// rest.
fn copy(len: usize, shared: usize, mut step: impl FnMut(usize, bool)) {
    let mut i = 0;
    while i < len {
        let word = (shared + i).is_multiple_of(8) && len - i >= 8;
        step(i, word);
        i += if word { 8 } else { 1 };
    }
}

fn whole_pages(len: usize) -> Result<usize> {
    match len.checked_next_multiple_of(PAGE_SIZE) {
        Some(0) | None => Err(Errno::INVAL),
        Some(len) => Ok(len),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_at_any_alignment() {
        let memory = SharedMemory::anonymous(100).unwrap();
        assert_eq!(memory.len(), PAGE_SIZE);
        let data: Vec<u8> = (1..=50).collect();
        for offset in 0..20 {
            memory.zero(0, PAGE_SIZE).unwrap();
            memory.write(offset, &data).unwrap();
            let mut back = vec![0; 52];
            memory.read(offset, &mut back).unwrap();
            assert_eq!(back[..50], data);
            assert_eq!(back[50..], [0, 0]);
        }
    }

    #[test]
    fn refuses_what_is_outside() {
        let memory = SharedMemory::anonymous(PAGE_SIZE).unwrap();
        assert_eq!(memory.write(PAGE_SIZE - 1, &[1, 2]), Err(Errno::RANGE));
        assert_eq!(memory.read(usize::MAX, &mut [0; 2]), Err(Errno::RANGE));
        assert_eq!(memory.zero(0, PAGE_SIZE + 1), Err(Errno::RANGE));
        assert_eq!(memory.load(PAGE_SIZE), Err(Errno::RANGE));
        assert_eq!(memory.load(2), Err(Errno::INVAL));
        assert_eq!(memory.write(PAGE_SIZE, &[]), Ok(()));
    }

    #[test]
    fn indices_are_words_of_the_memory() {
        let memory = SharedMemory::anonymous(PAGE_SIZE).unwrap();
        memory.store(8, 0x0102_0304).unwrap();
        assert_eq!(memory.load(8), Ok(0x0102_0304));
        assert_eq!(memory.get::<u8>(8), Ok(4));
    }
}
