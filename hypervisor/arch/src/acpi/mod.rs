//! What the firmware's ACPI tables say about the machine, as one owned value.
//!
//! Read once at boot, while the entry tables map the first 4 GiB: tables above that do not exist on
//! machines that a 32-bit loader can start. The `acpi` crate finds and checks the tables.

#[cfg(any(test, target_os = "none"))]
mod checks;
mod platform;
#[cfg(any(test, target_os = "none"))]
mod s5;

#[cfg(target_os = "none")]
mod fadt;
#[cfg(target_os = "none")]
mod madt;
#[cfg(target_os = "none")]
mod root;

pub use platform::{
    Cpu, Fadt, IoApic, LocalNmi, McfgRegion, Override, Platform, PmTimer, Register, Table,
};
#[cfg(target_os = "none")]
pub(crate) use root::try_platform;
#[cfg(target_os = "none")]
pub use root::{init, platform};
