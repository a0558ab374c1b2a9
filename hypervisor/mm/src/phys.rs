//! Access to machine frames through the direct map: with `heap`, the only unsafe code of this
//! crate.
//!
//! Guests change their memory at any moment, on other CPUs. So no `&mut` and no plain `&` to a
//! frame's bytes is ever formed: only references to atomics, and copies through raw pointers. A
//! copy that races with a guest's store reads some mix of old and new bytes, which the caller has
//! to treat as hostile anyway.
//!
//! On the host an arena stands for the machine's memory.
#![allow(unsafe_code)]

use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use oxen_core::seams::PageWords;
use oxen_types::{Maddr, Mfn, PAGE_SIZE};

/// One page-table page.
pub type Table = [AtomicU64; 512];

/// A type that may be laid over zeroed frames and shared between CPUs.
///
/// # Safety
/// All bit patterns are valid, all change goes through atomics, and the alignment divides the page
/// size.
pub(crate) unsafe trait Shared: Sync {}
// SAFETY: atomics of integers.
unsafe impl Shared for AtomicU32 {}
// SAFETY: atomics of integers.
unsafe impl Shared for AtomicU64 {}
// SAFETY: made of atomics of integers only, `repr(C)`.
unsafe impl Shared for crate::frames::Entry {}
// SAFETY: as above.
unsafe impl Shared for crate::frames::Account {}

/// The window through which frames `0..frames` are reached.
#[derive(Clone, Copy)]
pub struct Phys {
    base: usize,
    frames: u64,
}

impl Phys {
    /// # Safety
    /// From now on, `base + n * PAGE_SIZE` is the linear address of frame `n`, for each RAM frame
    /// below `frames`; frames that are handed to this crate as free are used by nothing else.
    pub const unsafe fn new(base: usize, frames: u64) -> Self {
        Self { base, frames }
    }

    /// A machine of `frames` frames for tests: zeroed, never freed.
    #[cfg(not(target_os = "none"))]
    pub fn arena(frames: u64) -> Self {
        let layout = core::alloc::Layout::from_size_align(frames as usize * PAGE_SIZE, 1 << 21)
            .expect("size of the arena");
        // SAFETY: the layout's size is not zero for any useful arena, which the assertion checks.
        let base = unsafe { alloc::alloc::alloc_zeroed(layout) };
        assert!(frames > 0 && !base.is_null(), "no memory for the arena");
        Self {
            base: base.expose_provenance(),
            frames,
        }
    }

    /// As [`Phys::arena`], for machines larger than the host: only what is touched takes memory.
    #[cfg(test)]
    pub(crate) fn sparse(frames: u64) -> Self {
        unsafe extern "C" {
            fn mmap(at: usize, len: usize, prot: i32, flags: i32, fd: i32, offset: i64) -> *mut u8;
        }
        const READ_WRITE: i32 = 3;
        /// MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE.
        const FLAGS: i32 = 0x4022;
        // SAFETY: a new mapping of zeros, which lasts as long as the process.
        let base = unsafe { mmap(0, frames as usize * PAGE_SIZE, READ_WRITE, FLAGS, -1, 0) };
        assert!(base.addr() as isize != -1, "no room for the arena");
        Self {
            base: base.expose_provenance(),
            frames,
        }
    }

    /// The number of frames that the window spans.
    pub const fn frames(self) -> u64 {
        self.frames
    }

    /// The linear address of a frame. A number beyond the window is a bug of ours: guests' frame
    /// numbers come here only after the frame table knew them.
    fn at(self, mfn: Mfn) -> *mut u8 {
        assert!(mfn.raw() < self.frames, "{mfn:?} lies outside of memory");
        ptr::with_exposed_provenance_mut(self.base + mfn.raw() as usize * PAGE_SIZE)
    }

    /// Where an address lies in the window.
    pub fn pointer(self, at: Maddr) -> *mut u8 {
        self.at(at.frame()).wrapping_add(at.page_offset())
    }

    /// The inverse of [`Phys::pointer`].
    pub fn maddr(self, at: *const u8) -> Maddr {
        let offset = at.addr().wrapping_sub(self.base) as u64;
        assert!(
            offset / (PAGE_SIZE as u64) < self.frames,
            "{at:?} is not in the direct map"
        );
        Maddr::new(offset)
    }

    /// A frame as 32-bit words.
    pub fn words(self, mfn: Mfn) -> &'static PageWords {
        // SAFETY: the frame is mapped for good (`new`), page aligned, and only seen through atomics
        // and raw copies.
        unsafe { &*self.at(mfn).cast() }
    }

    /// A frame as 64-bit words.
    pub fn table(self, mfn: Mfn) -> &'static Table {
        // SAFETY: as in `words`.
        unsafe { &*self.at(mfn).cast() }
    }

    /// `len` values laid over the frames from `first` on, which must be the caller's for good.
    #[inline(always)]
    pub(crate) fn slice<T: Shared>(self, first: Mfn, len: usize) -> &'static [T] {
        let pages = (len * size_of::<T>()).div_ceil(PAGE_SIZE).max(1) as u64;
        self.at(Mfn::new(first.raw() + pages - 1));
        // SAFETY: both ends lie in the window, it is contiguous, and `Shared` makes any contents
        // valid.
        unsafe { core::slice::from_raw_parts(self.at(first).cast(), len) }
    }

    /// Fills frames with zeros, which must be the caller's.
    pub fn zero(self, first: Mfn, count: u64) {
        if count == 0 {
            return;
        }
        self.at(Mfn::new(first.raw() + count - 1));
        // SAFETY: both ends lie in the window; the frames were just allocated, so nobody else sees
        // them.
        unsafe { ptr::write_bytes(self.at(first), 0, count as usize * PAGE_SIZE) }
    }

    /// Copies out of one frame; what lies past its end is not touched.
    pub(crate) fn read(self, mfn: Mfn, offset: usize, into: &mut [u8]) {
        let offset = offset.min(PAGE_SIZE);
        let len = into.len().min(PAGE_SIZE - offset);
        // SAFETY: `len` bytes from `offset` lie in the frame, and `into` is memory of ours, which
        // is not a guest's frame.
        unsafe { ptr::copy_nonoverlapping(self.at(mfn).add(offset), into.as_mut_ptr(), len) }
    }

    /// The aligned 64-bit word that holds a byte of a frame.
    #[inline(always)]
    pub(crate) fn word(self, mfn: Mfn, offset: usize) -> u64 {
        self.table(mfn)[offset / 8 % 512].load(Ordering::Relaxed)
    }

    /// Changes the aligned word that holds a byte of a frame, if it still is `old`.
    pub(crate) fn exchange(self, mfn: Mfn, offset: usize, old: u64, new: u64) -> bool {
        let word = &self.table(mfn)[offset / 8 % 512];
        word.compare_exchange(old, new, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }

    /// Copies into one frame; what lies past its end is dropped.
    pub(crate) fn write(self, mfn: Mfn, offset: usize, from: &[u8]) {
        let offset = offset.min(PAGE_SIZE);
        let len = from.len().min(PAGE_SIZE - offset);
        // SAFETY: as in `read`.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), self.at(mfn).add(offset), len) }
    }

    pub(crate) fn copy(self, dst: Mfn, dst_offset: usize, src: Mfn, src_offset: usize, len: usize) {
        let (dst_offset, src_offset) = (dst_offset.min(PAGE_SIZE), src_offset.min(PAGE_SIZE));
        let len = len.min(PAGE_SIZE - dst_offset).min(PAGE_SIZE - src_offset);
        // SAFETY: both ranges lie in their frames; they may be the same frame, so they may overlap.
        unsafe {
            ptr::copy(
                self.at(src).add(src_offset),
                self.at(dst).add(dst_offset),
                len,
            )
        }
    }
}
