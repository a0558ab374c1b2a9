//! Virtual CPUs: the vendor-neutral back-end trait with its AMD-V and VT-x implementations, the
//! instruction emulator for memory-mapped devices, the walk of guest page tables, CPUID and MSR
//! policy, and the interrupt controllers and PCI configuration space that a guest sees.
//!
//! `unsafe` is confined to `fpu`, `pat`, `spec::cpu`, `zeroed` and, in `svm` and `vmx`, to `insn`,
//! `switch`, `cpu`, `vcpu` (and `enter`, `msrs`, `host`), and to the fields that `vmx` writes.
#![no_std]
#![warn(unreachable_pub, unused_qualifications)]

extern crate alloc;
#[cfg(test)]
#[macro_use]
extern crate std;

pub mod backend;
pub mod dev;
mod dump;
pub mod emul;
mod error;
pub mod features;
pub mod fpu;
#[cfg(test)]
mod fuzz;
mod gprs;
mod paging;
mod pat;
mod permission_maps;
mod phys_cpu;
mod platform;
pub mod policy;
mod quirks;
pub mod save;
pub mod spec;
pub mod start;
mod step;
mod svm;
mod tags;
#[cfg(test)]
mod testing;
pub mod tsc;
mod vendor;
mod vmx;
pub mod x86;
mod zeroed;

pub use backend::{
    ApicAssist, BoxedVcpu, ControlExit, ControlOp, CpuMode, Event, Execution, Exit, Gprs, IoExit,
    NestedFault, Reg, RunDeadline, SegReg, Segment, ShadowRoots, VcpuBackend, VcpuEmulation,
    VcpuEvents, VcpuRegisters, Window,
};
pub use error::VirtError;
pub use permission_maps::DomainControls;
pub use phys_cpu::PhysCpu;
pub use platform::Platform;
pub use quirks::Quirks;
pub use vendor::{ApicUse, NestedFormat};
pub use zeroed::ToMaddr;
