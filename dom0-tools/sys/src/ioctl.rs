//! One ioctl with one structure, the only shape that Linux's Xen drivers use.
//!
//! The drivers number their calls `_IOC(_IOC_NONE, type, nr, size)` (include/uapi/xen/*.h).
#![expect(
    unsafe_code,
    reason = "an ioctl's argument is a pointer whose meaning only the driver knows"
)]

use core::ffi::c_void;
use std::os::fd::AsFd;

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, opcode};

use crate::Result;

/// A call number in the drivers' scheme; `T` is the structure it takes.
pub(crate) const fn number<T>(group: u8, nr: u8) -> Opcode {
    opcode::none(group, nr) | ((size_of::<T>() as Opcode) << 16)
}

struct Call<'a, T> {
    opcode: Opcode,
    arg: &'a mut T,
}

// SAFETY: the pointer given is that of a live, exclusive `T`, and `call`'s own contract says that
// the driver behind `opcode` takes a `T`.
unsafe impl<T> Ioctl for Call<'_, T> {
    type Output = i32;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut *self.arg).cast()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _arg: *mut c_void) -> rustix::io::Result<i32> {
        Ok(out)
    }
}

/// Calls the driver behind `fd`.
///
/// # Safety
/// `opcode` must be a call of that driver which reads and writes one `T`, and whatever addresses
/// stand inside `arg` must be good for what the call does with them.
pub(crate) unsafe fn call<T>(fd: impl AsFd, opcode: Opcode, arg: &mut T) -> Result<i32> {
    // SAFETY: the caller's contract.
    unsafe { rustix::ioctl::ioctl(fd, Call { opcode, arg }) }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_the_headers() {
        // _IOC(_IOC_NONE, 'P', 0, 48) and _IOC(_IOC_NONE, 'B', 0, 0)
        assert_eq!(number::<[u64; 6]>(b'P', 0), 0x0030_5000);
        assert_eq!(number::<()>(b'B', 0), 0x4200);
    }
}
