//! Speculation controls: what the CPU reports (`report`), what the command line sets (`options`),
//! what follows from both (`decide`, and for errata `errata`), the registers that carry it out on
//! one CPU (`cpu`), and the part of the world switches (`switch`).
//!
//! Sources: Intel's "Guidance for software developers" on speculative execution (SPEC_CTRL,
//! PRED_CMD, FLUSH_CMD, ARCH_CAPABILITIES), AMD's "Software techniques for managing speculation"
//! and "Speculative store bypass disable". Sibling hyperthreads share what is not flushed between
//! them: who runs guests that do not trust each other switches hyperthreading off on CPUs that are
//! vulnerable to L1TF or MDS.

use oxen_types::Maddr;

use crate::x86::CpuIdReaderNative;

mod cpu;
mod decide;
mod errata;
mod multihit;
mod options;
mod report;
pub(crate) mod switch;
#[cfg(test)]
mod tests;

pub(crate) use cpu::takes;
pub use cpu::{SpecCpu, SpecVcpu, command};
pub use decide::{Controls, Offer, Open};
pub use errata::Errata;
pub(crate) use multihit::is_affected as page_size_is_fatal;
pub use options::Options;
pub use report::Report;

pub const MSR_SPEC_CTRL: u32 = 0x48;
pub const MSR_PRED_CMD: u32 = 0x49;
pub const MSR_ARCH_CAPABILITIES: u32 = 0x10a;
pub const MSR_FLUSH_CMD: u32 = 0x10b;
pub const MSR_VIRT_SPEC_CTRL: u32 = 0xc001_011f;

/// Bits of SPEC_CTRL.
pub const IBRS: u64 = 1;
pub const STIBP: u64 = 1 << 1;
pub const SSBD: u64 = 1 << 2;
pub const PSFD: u64 = 1 << 7;
pub const BHI_DIS_S: u64 = 1 << 10;

/// RAM that an erratum of this machine's CPUs makes unusable: start and length.
pub fn unusable_memory() -> Option<(Maddr, u64)> {
    errata::bad_memory(&Report::read(&CpuIdReaderNative, &mut |_| 0))
}
