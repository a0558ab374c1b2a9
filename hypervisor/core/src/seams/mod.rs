//! The traits through which the hypervisor's logic reaches the machine below it.
//!
//! Core never touches hardware: memory, clocks, console and CPUs are behind the traits here. The
//! processor state of vcpus is behind `vcpu::VcpuArch`, which names a vcpu and so stands higher.
//! The crates mm, vmm and kernel implement the traits on the machine; tests implement them on the
//! host.

mod machine;
mod memory;

pub use machine::{Clock, ClockScale, Console, MachineInfo, Platform, PowerAction};
pub use memory::{
    Access, Claimant, FLUSHED_TOGETHER, FaultKind, FrameSource, GuestMemory, LinearMemory, MapKind,
    Mapped, MemoryStats, P2mEntry, PageRef, PageWords, Report,
};
