//! The traits through which the hypervisor's logic reaches the machine below it.
//!
//! Core never touches hardware: memory, clocks, CPUs and the vcpus' processor state are behind the
//! traits here. The crates mm, vmm and kernel implement them on the machine; tests implement them on
//! the host.

mod machine;
mod memory;
mod vcpu;

pub use machine::{Clock, ClockScale, Console, MachineInfo, Platform, PowerAction};
pub use memory::{
    Access, Claimant, FLUSHED_TOGETHER, FaultKind, FrameSource, GuestMemory, LinearMemory, MapKind,
    Mapped, MemoryStats, P2mEntry, PageRef, PageWords, Report,
};
pub use vcpu::{DomainArch, PostedStart, VcpuArch};
