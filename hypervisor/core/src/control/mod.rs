//! The toolstack's and dom0's side: domctl, sysctl, platform_op and physdev_op.
//!
//! Each call has an envelope with an interface version and a union of 128 bytes: one private copy is
//! read, the operation works on it, and it is written back if it changed.

pub mod domctl;
mod map;
pub mod physdev;
pub mod platform;
pub mod sysctl;
