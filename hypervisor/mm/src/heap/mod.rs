//! The hypervisor's two heaps behind one allocator: a list for boot, slabs for life.
//!
//! Until [`Heap::init`] gets the frame table, everything comes from a region of the image that a
//! first-fit list keeps ([`boot`]). From then on everything comes from [`slabs`]. What is freed
//! goes back to the heap that has its address. So the list's two weaknesses do no harm: only boot
//! takes from it, with interrupts off on one CPU, and no guest chooses its length.
//!
//! Not for use from NMI or machine-check handlers.
#![allow(unsafe_code, reason = "the allocator's trait")]

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;

use crate::frames::FrameTable;

mod boot;
mod slabs;

use boot::BootHeap;
pub use boot::Region;
pub use slabs::Slabs;

/// The allocator that Rust's `alloc` crate uses.
pub struct Heap {
    boot: BootHeap,
    slabs: Slabs,
}

impl Heap {
    /// A heap that takes from `region` until [`Heap::init`].
    pub const fn new(region: &'static Region) -> Self {
        Self {
            boot: BootHeap::new(region),
            slabs: Slabs::new(),
        }
    }

    /// Everything that is allocated from now on comes from frames.
    pub fn init(&self, frames: &'static FrameTable) {
        self.slabs.init(frames);
    }

    fn allocate(&self, layout: Layout) -> *mut u8 {
        let at = match self.slabs.is_ready() {
            true => self.slabs.allocate(layout),
            false => self.boot.allocate(layout),
        };
        at.unwrap_or(ptr::null_mut())
    }
}

// SAFETY: each of the two heaps hands out memory once until it is given back, of the layout's size
// and alignment; an address lies in the boot heap's region or in the slabs' frames, never in both.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.allocate(layout)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if self.boot.holds(at) {
            // SAFETY: allocated there with this layout, as the caller vouches.
            unsafe { self.boot.release(at, layout) }
        } else {
            self.slabs.release(at, layout);
        }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller vouches that the size, rounded up to the alignment, does not overflow.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        if !self.boot.holds(at) && self.slabs.resize_in_place(layout, new) {
            return at;
        }
        let to = self.allocate(new);
        if !to.is_null() {
            // SAFETY: two live allocations of at least this size, which are not the same; the old
            // one is given back with its own layout.
            unsafe {
                ptr::copy_nonoverlapping(at, to, layout.size().min(new_size));
                self.dealloc(at, layout);
            }
        }
        to
    }
}

#[cfg(test)]
mod tests;
