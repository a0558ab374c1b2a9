//! Finds in a guest's disk image what GRUB would boot from it: partition table, file system, GRUB's
//! configuration, kernel and ramdisk.
//!
//! The image is the guest's, so nothing in it can be trusted. No input makes this panic, loop or
//! take more than a fixed amount of memory and work: all that is read has a limit, a configuration
//! is evaluated within a budget of steps, and `main` gives up every privilege before it reads a
//! byte.
//!
//! [`disk`] reads tables and file systems, [`grub`] the configuration, [`boot`] puts them together.
#![forbid(unsafe_code)]
#![warn(unreachable_pub, unused_qualifications)]
#![warn(clippy::wildcard_imports, clippy::allow_attributes)]

pub mod boot;
pub mod disk;
mod error;
pub mod grub;

pub use error::{Error, Result};
