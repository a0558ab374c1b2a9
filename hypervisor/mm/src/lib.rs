//! Memory: frames, the hypervisor's heap and page tables, and each domain's guest-physical space.
//!
//! Lock order: a domain's p2m, then its paging pool or the heap, then the frame allocator's
//! `taking`, then a zone of it. The TLB flush that a change of a p2m owes is done with none of them
//! held (see [`p2m`]). Nothing here may be called from an NMI or machine-check handler.
//!
//! [`start`] has the order in which a machine starts, all of it on the boot CPU.
//!
//! `unsafe` lives in two modules: `phys` (the bytes of frames) and `heap` (the allocator's trait).
#![no_std]
#![warn(unreachable_pub, missing_docs, unused_qualifications)]
#![warn(clippy::allow_attributes, clippy::wildcard_imports)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod dom0;
pub mod expel;
pub mod frames;
pub mod heap;
pub mod host;
pub mod memmap;
pub mod p2m;
pub mod phys;
pub mod pool;
pub mod pt;
pub mod start;

pub use frames::{AllocOptions, FrameTable, FrameUse};
pub use heap::Heap;
pub use host::{HostBuilder, HostSpace};
pub use memmap::MemoryMap;
pub use p2m::{Cause, FlushGuest, GuestSpace};
pub use phys::Phys;
