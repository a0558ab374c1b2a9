//! The hypervisor's logic: domains, vcpus, event channels, grants, scheduling and hypercalls.
//!
//! No hardware and no `unsafe`: what it needs of the machine comes in through [`seams`], so all of
//! it runs under `cargo test` on the host. (One of the tests is an allocator, hence `not(test)`.)
#![no_std]
#![cfg_attr(not(test), forbid(unsafe_code))]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod area;
mod clock;
pub mod control;
pub mod domain;
pub mod evtchn;
pub mod fallible;
pub mod grant;
pub mod hypercall;
pub mod machine;
mod params;
pub mod runstate;
pub mod sched;
pub mod seams;
#[cfg(test)]
mod testing;
pub mod timer;
pub mod vcpu;
