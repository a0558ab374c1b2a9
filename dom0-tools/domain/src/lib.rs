//! The life of a PVH guest: loading its kernel, building it, watching over it and taking it down.
//!
//! Everything here speaks to the hypervisor and the store through two traits ([`ports`]), so that
//! all of it, every failure included, runs in tests against the ones in `fake`. The real ones are in
//! [`live`].
#![forbid(unsafe_code)]

pub mod acpi;
pub mod affinity;
pub mod build;
mod context;
pub mod end;
pub mod error;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod image;
pub mod layout;
pub mod lifecycle;
pub mod live;
pub mod nodes;
pub mod ports;
pub mod resize;
pub mod start_info;

pub use error::{Error, Result};
