//! The tools' door to the hypervisor: Linux's Xen devices, wrapped so that nothing above this crate
//! needs `unsafe`.
//!
//! Three layers, each its own set of modules:
//! - devices: [`privcmd`] (hypercalls and foreign memory), [`evtchn`], [`gntdev`], [`xenbus`] (the
//!   store's side of dom0's own ring), [`loopdev`]. They hold the only unsafe code: ioctls and
//!   mmap.
//! - [`mapping`]: memory shared with someone who may be hostile. It is never lent out as a Rust
//!   slice, only copied, because the other side may write it at any time.
//! - [`hypercall`]: one typed function a hypercall, safe code over the layers below.
//!
//! Errors are the errno that the hypervisor or Linux gave ([`Errno`]).
#![warn(unreachable_pub, unused_qualifications)]
#![warn(clippy::wildcard_imports, clippy::allow_attributes)]

pub mod daemon;
pub mod error;
pub mod evtchn;
pub mod gntdev;
pub mod hypercall;
mod ioctl;
pub mod loopdev;
pub mod mapping;
pub mod privcmd;
pub mod xenbus;

pub use evtchn::EventChannels;
pub use gntdev::Gntdev;
pub use mapping::SharedMemory;
pub use privcmd::{Arg, HypercallBuffer, Privcmd};
pub use rustix::io::Errno;

/// The size of every page that is shared, mapped or granted.
pub const PAGE_SIZE: usize = 4096;

/// The result of the calls of this crate.
pub type Result<T, E = Errno> = core::result::Result<T, E>;
