//! Objects that the hardware reads and writes: boxes of zeros, made in place, as they are too large
//! for a stack.
#![allow(unsafe_code, reason = "allocates")]

use alloc::alloc::alloc_zeroed;
use alloc::boxed::Box;
use core::alloc::Layout;

use bytemuck::Zeroable;

use oxen_types::Maddr;

use crate::error::VirtError;

/// Gives the machine address of an object in the hypervisor's heap, by its linear address.
pub type ToMaddr = fn(usize) -> Maddr;

pub(crate) fn zeroed_box<T: Zeroable>() -> Result<Box<T>, VirtError> {
    const { assert!(size_of::<T>() != 0) };
    // SAFETY: the layout has a size, as checked above.
    let at = unsafe { alloc_zeroed(Layout::new::<T>()) };
    if at.is_null() {
        return Err(VirtError::NoMemory);
    }
    // SAFETY: the heap gave `at` for the layout of `T` just now, and zeros are a `T`.
    Ok(unsafe { Box::from_raw(at.cast()) })
}
