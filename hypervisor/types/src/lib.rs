//! The hypervisor's vocabulary: addresses, identifiers and errors.
//!
//! Each address space is its own type, without `+`: only named, checked steps, so that a guest
//! physical address cannot be used as a machine address by accident. And the one kind of lock that
//! several crates need beside `spin`'s. No hardware, no `unsafe`.
#![no_std]
#![warn(unreachable_pub, missing_docs, unused_qualifications)]
#![warn(clippy::allow_attributes, clippy::wildcard_imports)]
#![forbid(unsafe_code)]

mod addr;
mod cpu_mask;
mod ecam;
mod errno;
mod ids;
mod index;
mod irq;
pub mod layout;
mod lock;
pub mod paging;
mod part;

pub use addr::{Gaddr, Gfn, Maddr, Mfn, PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, Vaddr};
pub use cpu_mask::{CpuMask, MAX_CPUS};
pub use ecam::EcamRegion;
pub use errno::{Errno, Result};
pub use ids::{CpuId, DomainId, GrantRef, Port, VcpuId};
pub use index::masked;
pub use irq::{Polarity, Trigger};
pub use lock::{ReadGuard, RwLock};
pub use part::{Absent, Part, Present};
