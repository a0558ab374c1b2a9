//! How far a call got that is executed again, where neither the domain that it is about nor its
//! argument registers can say.
//!
//! One place in each vcpu, which names the call. A call that does not find its progress there
//! begins again: another task's call ran on the vcpu meanwhile, or the task moved to another vcpu.

use super::Vcpu;

/// A XEN_SYSCTL_getdomaininfolist that goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DomainList {
    /// Domains that it has described.
    pub done: u32,
    /// The lowest number that the next domain may have.
    pub next: u32,
}

/// The argument and the address space, which distinguish one call from another.
pub type CallName = (u64, u64);

/// A call, and where it goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// The call.
    pub of: CallName,
    /// Where it goes on.
    pub at: DomainList,
}

impl Vcpu {
    /// Takes the progress of a call; `None` if the vcpu keeps none, or that of another call.
    pub fn take_progress(&self, of: CallName) -> Option<DomainList> {
        let mut kept = self.progress.lock();
        let taken = kept.take_if(|progress| progress.of == of);
        taken.map(|progress| progress.at)
    }

    /// Keeps the progress of a call, in place of any other's.
    pub fn keep_progress(&self, of: CallName, at: DomainList) {
        *self.progress.lock() = Some(Progress { of, at });
    }
}
