//! The parts that the tests in virtual machines have in common: a machine with Oxen and dom0 at its
//! prompt, guests of our own kernel ([`guest`]) or of the stock one, and the state of the
//! hypervisor in numbers.
//!
//! A boot takes half a minute under emulation, so one test boots once and checks many things. All
//! waits have limits; a failure shows the end of the console. The image must have been built (`./x
//! image`); `./x test` sees to it.

pub mod backends;
mod guest;
mod lab;
pub mod runner;
mod tools;
mod traces;
pub mod turn;

pub use guest::{Guest, LINUX_READY};
pub use lab::{BAD_LINES, Lab, Totals, machine, patient, plain};
pub use tools::with_tools;
