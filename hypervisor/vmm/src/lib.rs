//! The loop of a CPU and what hangs on it: guests' exits, flushes, saving, interrupt routing, and dom0.
#![cfg(target_os = "none")]
#![no_std]

extern crate alloc;

pub mod dom0;
pub mod domain;
mod exits;
pub mod flush;
pub mod globals;
pub mod hardware;
pub mod percpu;
mod policy;
mod ports;
pub mod run;
mod save;
pub mod shadow;
mod space;
pub mod trace;
mod vcpu;
