//! A hypercall as its handler sees it: the caller, the arguments, the budget, and how it ends.
//!
//! Arguments come in rdi, rsi, rdx, r10, r8, r9; the result goes to rax
//! (public/arch-x86/xen-x86_64.h). A handler decodes, checks, then acts. A long call returns
//! [`Stop::Again`]: the call is executed again, with the arguments as the handler left them, after
//! the CPU has looked at its other work. `dispatch` has the table of all hypercalls.

mod budget;
pub mod console;
pub mod hvm;
pub mod memory;
pub mod multicall;
pub(crate) mod op;
mod progress;
pub mod sched;
pub mod vcpu;
pub mod version;

use oxen_types::Errno;

pub use crate::vcpu::DomainList;
pub use budget::Work;
pub use op::{Call, List, Privileged, Target};

/// Why a handler did not finish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// The call fails with this errno.
    Err(Errno),
    /// The call is executed again. The domain, the vcpu or the arguments say how far it got.
    Again,
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Err(errno)
    }
}

/// A handler's answer: the value for rax, or why not.
pub type Answer = Result<u64, Stop>;

/// The dispatcher's verdict on a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// rax gets this, and the guest goes on behind the hypercall.
    Done(u64),
    /// The hypercall instruction is executed again, with the arguments of [`Call::args`].
    Again,
}

#[cfg(test)]
mod tests;
