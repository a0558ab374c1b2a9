//! The loop of a CPU and all that hangs on it: guests' exits, flushes, saving, interrupt routing,
//! and dom0.
//!
//! No hardware and no `unsafe`: [`host`] has the traits by which the machine comes in. `kernel`
//! implements them; the tests of this crate implement them in memory.
#![no_std]
#![forbid(unsafe_code)]
#![warn(unreachable_pub, missing_docs, unused_qualifications)]
#![warn(clippy::wildcard_imports, clippy::allow_attributes)]

extern crate alloc;
#[cfg(test)]
#[macro_use]
extern crate std;

mod deliver;
mod devices;
pub mod dom0;
mod domain;
mod exits;
mod flush;
pub mod host;
mod irq_routes;
mod keys;
mod percpu;
mod policy;
mod run;
mod runner;
mod save;
mod space;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod trace;
mod vcpu;
mod vmm;
mod vpci_host;

pub use devices::{DeviceConfig, frames_of};
pub use host::Host;
pub use oxen_paging::shadow::SHADOW;
pub use percpu::PerCpu;
pub use run::cpu_loop;
pub use trace::Trace;
pub use vmm::{Parts, Settings, Vmm};

use oxen_arch::guest_log;
