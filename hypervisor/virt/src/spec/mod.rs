//! Speculation controls: what the CPU reports (`report`), what the command line wishes (`options`), what
//! follows from both (`decide`), and the registers that carry it out on one CPU (`cpu`).
//!
//! Sources: Intel's "Guidance for software developers" on speculative execution (SPEC_CTRL, PRED_CMD,
//! FLUSH_CMD, ARCH_CAPABILITIES), AMD's "Software techniques for managing speculation" and "Speculative
//! store bypass disable". Sibling hyperthreads share what is not flushed between them: who runs guests
//! that do not trust each other switches hyperthreading off on CPUs that are vulnerable to L1TF or MDS.

mod cpu;
mod decide;
mod multihit;
mod options;
mod report;
#[cfg(test)]
mod tests;

pub use cpu::{SpecCpu, SpecVcpu, command, serialise_lfence};
pub use decide::{Controls, Offer};
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

/// Assembly: unless the register is 0, fills the return predictor with addresses of a trap for speculation.
/// Changes that register and flags.
macro_rules! overwrite_rsb {
    ($count:literal) => {
        concat!(
            "test ",
            $count,
            ", ",
            $count,
            "\n",
            "jz 79f\n",
            "mov ",
            $count,
            ", 16\n",
            "71: call 73f\n",
            "72: pause\n lfence\n jmp 72b\n",
            "73: call 75f\n",
            "74: pause\n lfence\n jmp 74b\n",
            "75: dec ",
            $count,
            "\n",
            "jnz 71b\n",
            "add rsp, 32 * 8\n",
            "79:"
        )
    };
}
pub(crate) use overwrite_rsb;
