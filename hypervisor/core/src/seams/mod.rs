//! What the hypervisor's logic needs of the machine below it.
//!
//! Core never touches hardware: it sees memory, clocks, CPUs and the vcpus' processor state through
//! the traits here. The crates mm, virt and kernel implement them on the machine; tests implement
//! them on the host.

mod machine;
mod memory;
mod vcpu;

pub use machine::{Clock, ClockScale, Console, MachineInfo, Platform, PowerAction};
pub use memory::{
    Claimant, FLUSHED_TOGETHER, FrameSource, GuestMemory, LinearMemory, MapKind, Mapped, Mapping,
    MemoryStats, P2mEntry, PageRef, PageWords, Report,
};
pub use vcpu::{DomainArch, PostedStart, VcpuArch};
