//! The hypervisor's logic: domains, vcpus, event channels, grants, scheduling and hypercalls.
//!
//! No hardware and no `unsafe`: the machine is reached through [`seams`], so all of this crate runs
//! under `cargo test` on the host. (One of the tests is an allocator, hence `not(test)`.)
//!
//! The rooms stand on floors. A room imports from its own floor and from those below; the test
//! `no_import_runs_upwards` reads the sources and holds them to it.
//!
//! | floor | rooms | know |
//! |---|---|---|
//! | dispatch | [`dispatch`], multicall | every hypercall |
//! | operations | the rooms of [`hypercall`], [`control`], [`evtchn`], [`grant`] | the objects |
//! | calls | [`hypercall`] itself | a caller: its registers, its memory, its rights |
//! | objects | [`machine`], [`domain`], [`vcpu`], [`evtchn`], [`grant`] | each other |
//! | guest-visible time | `clock`, [`runstate`] | the areas that they are published in |
//! | mechanisms | [`sched`], [`timer`], `area`, `params` | no domain, only their owner's data |
//! | growth | [`fallible`] | the free memory |
//! | seams | [`seams`] | nothing of this crate |
#![warn(missing_docs, unused_qualifications)]
#![cfg_attr(not(test), warn(unreachable_pub))]
#![warn(clippy::wildcard_imports, clippy::allow_attributes)]
#![no_std]
#![cfg_attr(not(test), forbid(unsafe_code))]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod area;
mod clock;
pub mod control;
pub mod dispatch;
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
#[cfg(test)]
mod tests;
pub mod timer;
pub mod vcpu;
