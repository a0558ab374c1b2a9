//! One virtual CPU, as the rest of the hypervisor sees it: registers, events, exits, and the traits
//! that AMD-V (`svm`) and VT-x (`vmx`) implement.
//!
//! The traits build on each other, and a user takes the smallest that serves:
//!
//! | trait | content | users |
//! |---|---|---|
//! | [`VcpuRegisters`] | registers, segments, FPU state, TSC offset | CPUID and MSR policy, dumps |
//! | [`VcpuEmulation`] | the instruction at the exit, stepping over it | the instruction emulator |
//! | [`VcpuEvents`] | exceptions and interrupts for the next entry | exit handlers |
//! | [`VcpuBackend`] | loading onto a CPU, running, paging roots, reset | the loop of a CPU |
//!
//! [`ApicAssist`] and [`RunDeadline`] are capabilities that a back end has or has not.
//!
//! Register values are the guest's view. Bits that the hardware needs and the guest must not see,
//! such as EFER.SVME, never leave the back end. Neither do quirks of an emulator: each is worked
//! around in the back end that knows about the quirk.

mod capability;
mod control;
mod emulation;
mod event;
mod exit;
mod registers;
mod run;
mod segment;

use alloc::boxed::Box;
use core::fmt;

pub use capability::{ApicAssist, RunDeadline};
pub use control::{ControlOp, Operand};
pub use emulation::VcpuEmulation;
pub use event::{Event, VcpuEvents, Window};
pub use oxen_types::paging::{NestedFault, ShadowRoots};

pub use exit::{ControlExit, Exit, IoExit};
pub use registers::{Gprs, Reg, VcpuRegisters};
pub use run::VcpuBackend;
pub use segment::{CpuMode, Execution, SegReg, Segment};

/// A virtual CPU of the vendor that this machine has.
pub type BoxedVcpu = Box<dyn VcpuBackend>;

impl fmt::Debug for dyn VcpuBackend + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dump(f)
    }
}
