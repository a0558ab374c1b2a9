//! The CPUs as a domain sees them: CPUID leaves and model-specific registers.
//!
//! Everything is by explicit table: a feature that is not named is hidden, a register that is not
//! named faults.

pub mod cpuid;
mod cr;
mod cr4;
pub mod hypervisor;
pub mod msr;
pub mod mtrr;
mod topology;
mod xstate;

pub use cpuid::{BadLeaf, CpuidPolicy, DomainShape, Live};
pub use cr::{write_cr0, write_cr3, write_status};
pub use cr4::write_cr4;
pub use hypervisor::HypervisorInfo;
pub use msr::{HostMsrs, MsrAccess, MsrFault, MsrPolicy, MsrRead, MsrState, MsrWrite};
pub use mtrr::Mtrr;
pub use xstate::xsetbv;

#[cfg(test)]
mod tests;
