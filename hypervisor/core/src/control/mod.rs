//! The toolstack's and dom0's side: domctl, sysctl, platform_op and physdev_op.

pub mod domctl;
pub mod physdev;
pub mod platform;
pub mod sysctl;
