//! The hypervisor's logic: domains, vcpus, event channels, grants, scheduling and hypercalls.
//!
//! No hardware and no `unsafe`: what it needs of the machine comes in through [`ports`], so all of
//! it runs under `cargo test` on the host.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod ports;
