//! Machine code put together at run time: how tests execute instruction forms that no compiler
//! emits.

use core::cell::UnsafeCell;

use super::trap::{self, Trap};

#[repr(C, align(4096))]
struct Buffer(UnsafeCell<[u8; 4096]>);

// SAFETY: only the first CPU's tests write and run code here.
unsafe impl Sync for Buffer {}

static BUFFER: Buffer = Buffer(UnsafeCell::new([0xcc; 4096]));

const RET: u8 = 0xc3;

/// Instructions in order.
pub struct Code {
    bytes: [u8; 256],
    len: usize,
}

impl Code {
    pub fn new() -> Self {
        Self {
            bytes: [0xcc; 256],
            len: 0,
        }
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
        self
    }

    /// mov REGISTER, value: 0 = rax, 1 = rcx, 2 = rdx, 3 = rbx, 5 = rbp, 6 = rsi, 7 = rdi, 8..=15.
    pub fn load(self, register: u8, value: u64) -> Self {
        let rex = 0x48 | register >> 3;
        self.bytes(&[rex, 0xb8 | register & 7])
            .bytes(&value.to_le_bytes())
    }

    /// Runs it, with a return at its end.
    pub fn run(self) -> Result<(), Trap> {
        let code = self.bytes(&[RET]);
        let at: *mut u8 = BUFFER.0.get().cast();
        // SAFETY: the buffer is larger than any code; the CPU sees its own writes to code.
        unsafe { at.copy_from_nonoverlapping(code.bytes.as_ptr(), code.len) };
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
        // SAFETY: it ends with a return, and what it breaks is what the test is about.
        let entry: extern "C" fn() = unsafe { core::mem::transmute(at) };
        trap::guard(|| entry())
    }
}
