//! The life of a PVH guest: loading its kernel, building it, watching over it and taking it down.
//!
//! All modules reach the hypervisor and the store through two traits ([`world`]). [`live`]
//! implements them on a machine; `testing` implements them in memory, so that tests run every path,
//! every failure included.
#![forbid(unsafe_code)]
#![warn(unreachable_pub, unused_qualifications)]
#![warn(clippy::wildcard_imports, clippy::allow_attributes)]

pub mod acpi;
pub mod affinity;
pub mod bootloader;
pub mod build;
mod context;
pub mod end;
pub mod image;
pub mod layout;
pub mod lifecycle;
pub mod live;
pub mod nodes;
pub mod resize;
pub mod start_info;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod world;

pub use oxen_sys::error::{Error, Result};
