//! The public Xen ABI of 4.17 for x86-64, as types and numbers: what guests, toolstack and hypervisor
//! agree on. Names follow the public C headers (`/usr/include/xen` of libxen-dev).
//!
//! Structures are plain data: explicit padding, unions as bytes, guest handles as `u64` addresses.
#![no_std]
#![forbid(unsafe_code)]

#[macro_use]
mod define;
mod core_ops;
mod event_channel;
mod grant_table;
mod hvm;
mod memory;
mod sched;
mod vcpu;
mod version;

pub use core_ops::*;
pub use event_channel::*;
pub use grant_table::*;
pub use hvm::*;
pub use memory::*;
pub use sched::*;
pub use vcpu::*;
pub use version::*;
