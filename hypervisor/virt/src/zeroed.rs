//! Boxes of zeros, made in place: too large for a stack, and the heap may be used up.
#![allow(unsafe_code, reason = "allocates")]

use alloc::alloc::alloc_zeroed;
use alloc::boxed::Box;
use core::alloc::Layout;

use bytemuck::Zeroable;

use crate::VirtError;

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
