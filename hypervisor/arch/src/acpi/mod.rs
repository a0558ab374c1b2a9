//! The firmware's ACPI tables, as one owned value: [`AcpiInfo`].
//!
//! The tables are read once at boot, on the final page tables: each one is mapped where it lies,
//! above 4 GiB too. The crate `acpi` finds and checks them, and its iterators fill vectors: no list
//! of the firmware's is cut.

#[cfg(any(test, target_os = "none"))]
mod checks;
mod info;
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

/// `memory(address, length)` gives firmware's memory at a machine address, or `None` where that
/// cannot be reached. The bytes stay as they are for good.
pub type FirmwareMemory = fn(u64, usize) -> Option<&'static [u8]>;

pub use info::{AcpiInfo, Cpu, Fadt, IoApic, LocalNmi, Override, PmTimer, Register, Table};
#[cfg(target_os = "none")]
pub(crate) use root::try_info;
#[cfg(any(test, target_os = "none"))]
pub use root::{info, init};
