//! The life of a PVH guest: loading its kernel, building it, watching over it and taking it down.
//!
//! Everything here speaks to the hypervisor and the store through two traits ([`ports`]), so that
//! all of it, every failure included, runs in tests against the ones in `fake`.
#![forbid(unsafe_code)]

pub mod error;
pub mod image;

pub use error::{Error, Result};
