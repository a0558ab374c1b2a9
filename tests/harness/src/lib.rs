//! A virtual machine as a value: starts QEMU, talks to its serial console, and is gone when
//! dropped.
//!
//! [`Machine`] describes a machine and is the only place that builds a QEMU command line (the task
//! runner uses it too). [`Vm`] is a running one, under a wall-clock limit, with its console in a
//! log file. [`images`] names what `./x image` has built.

mod console;
pub mod images;
mod machine;
mod shell;
pub mod shown;
mod vm;

pub use console::Console;
pub use images::Images;
pub use machine::{Boot, Disk, DiskBus, Firmware, Limit, Machine, Module, Nic, NicModel, Serial};
pub use shell::Outcome;
pub use vm::Vm;
