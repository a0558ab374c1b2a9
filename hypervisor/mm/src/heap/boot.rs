//! The boot heap: a region of the image's .bss, kept by a first-fit list (`linked_list_allocator`).
//!
//! The region holds what the boot loader and the firmware say (command lines, modules, memory
//! maps), whatever its length: a memory map of a thousand ranges takes a quarter of it. Where it is
//! full, the allocation fails, and the hypervisor's start ends with a panic that says so.
#![allow(unsafe_code, reason = "the region's memory goes to the list")]

use core::alloc::Layout;
use core::cell::UnsafeCell;
use core::ptr::NonNull;

use linked_list_allocator::Heap as List;
use spin::Mutex;

/// Bytes of the region.
const SIZE: usize = 512 << 10;

/// The boot heap's memory: a static of its own, all zero, so that the image's file does not have
/// it.
#[repr(align(4096))]
pub struct Region(UnsafeCell<[u8; SIZE]>);

// SAFETY: only the list of the one `BootHeap` that has the region reaches it, under its lock, and
// whoever it hands a part of it to.
unsafe impl Sync for Region {}

impl Region {
    /// A region that no heap uses yet.
    #[expect(
        clippy::new_without_default,
        reason = "for statics: no default is const"
    )]
    pub const fn new() -> Self {
        Self(UnsafeCell::new([0; SIZE]))
    }
}

pub(super) struct BootHeap {
    region: &'static Region,
    list: Mutex<List>,
}

impl BootHeap {
    /// The heap over `region`, which no other heap may have.
    pub(super) const fn new(region: &'static Region) -> Self {
        Self {
            region,
            list: Mutex::new(List::empty()),
        }
    }

    /// Whether an address lies in the region.
    pub(super) fn holds(&self, at: *const u8) -> bool {
        at.addr().wrapping_sub(self.region.0.get().addr()) < SIZE
    }

    pub(super) fn allocate(&self, layout: Layout) -> Option<*mut u8> {
        let mut list = self.list.lock();
        if list.bottom().is_null() {
            // SAFETY: the region is static, and this list's alone.
            unsafe { list.init(self.region.0.get().cast(), SIZE) };
        }
        list.allocate_first_fit(layout).ok().map(NonNull::as_ptr)
    }

    /// Takes an allocation back.
    ///
    /// # Safety
    /// `allocate` gave `at` for a layout equal to `layout`, and nobody uses it any more.
    pub(super) unsafe fn release(&self, at: *mut u8, layout: Layout) {
        if let Some(at) = NonNull::new(at) {
            // SAFETY: the list's own allocation, as the caller vouches.
            unsafe { self.list.lock().deallocate(at, layout) }
        }
    }

    /// Bytes that are allocated, with what the list rounds up.
    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.list.lock().used()
    }
}
