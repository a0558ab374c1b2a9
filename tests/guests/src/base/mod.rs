//! The kernel under the tests.

pub mod arguments;
pub mod clock;
pub mod code;
pub mod console;
pub mod cpu;
mod entry;
pub mod hypercall;
pub mod random;
pub mod smp;
pub mod store;
pub mod trap;
