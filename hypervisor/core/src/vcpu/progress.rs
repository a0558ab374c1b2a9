//! How far a call got that is executed again, where its argument registers cannot say.
//!
//! One place in each vcpu, which names the call. A call that does not find its progress there begins
//! again: another task's call ran on the vcpu meanwhile, or the task moved to another vcpu.

use super::Vcpu;

/// The calls that may leave their progress in the vcpu.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Long {
    /// EVTCHNOP_reset.
    EventReset,
    /// XEN_SYSCTL_getdomaininfolist.
    DomainList,
}

/// What distinguishes one call from another: the operation, its argument, the address space.
pub type CallName = (Long, u64, u64);

/// A call, and where it goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// The call.
    pub of: CallName,
    /// Where it goes on, in the call's own terms.
    pub at: [u32; 2],
}

impl Vcpu {
    /// Takes the progress of a call; `None` if the vcpu keeps none, or that of another call.
    pub fn take_progress(&self, of: CallName) -> Option<[u32; 2]> {
        let mut kept = self.progress.lock();
        let taken = kept.take_if(|progress| progress.of == of);
        taken.map(|progress| progress.at)
    }

    /// Keeps the progress of a call, in place of any other's.
    pub fn keep_progress(&self, of: CallName, at: [u32; 2]) {
        *self.progress.lock() = Some(Progress { of, at });
    }
}
