//! What the firmware's ACPI tables say about the machine, as one owned value.
//!
//! Read once at boot, on the final page tables: each table is mapped where it lies, above 4 GiB too. The
//! `acpi` crate finds and checks the tables.

#[cfg(any(test, target_os = "none"))]
mod checks;
mod platform;
#[cfg(any(test, target_os = "none"))]
mod s5;

#[cfg(any(test, target_os = "none"))]
mod fadt;
#[cfg(any(test, target_os = "none"))]
mod madt;
#[cfg(any(test, target_os = "none"))]
mod root;
#[cfg(test)]
mod tests;

/// `memory(address, length)` gives firmware's memory at a machine address, or `None` where that cannot be
/// reached. It stays as it is for good.
pub type FirmwareMemory = fn(u64, usize) -> Option<&'static [u8]>;

pub use platform::{Cpu, Fadt, IoApic, LocalNmi, Override, Platform, PmTimer, Register, Table};
#[cfg(target_os = "none")]
pub(crate) use root::try_platform;
#[cfg(any(test, target_os = "none"))]
pub use root::{init, platform};
