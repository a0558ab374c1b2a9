//! The toolstack's and dom0's side: domctl, sysctl, platform_op and physdev_op.
//!
//! The first three have an envelope with an interface version and a union of 128 bytes: see
//! `hypercall/op/envelope.rs`.

pub mod domctl;
mod map;
pub mod physdev;
pub mod platform;
pub mod sysctl;
