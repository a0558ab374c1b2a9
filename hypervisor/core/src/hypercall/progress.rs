//! How far a call got that is executed again, where its argument registers cannot say.
//!
//! A call may change its own argument registers and no others, and a kernel may keep values in the
//! others. So a call without a register for its progress leaves it in its vcpu: one place, which
//! names the call. A call that does not find its progress there begins anew: another task's call ran
//! on the vcpu meanwhile, or the task moved to another vcpu. Only calls for which that does no harm
//! may use it.

use super::{Call, Stop};

/// The calls that may leave their progress in the vcpu.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Long {
    EventReset,
    DomainList,
}

/// What tells one call from another: what it does, with what argument, in which address space.
type Name = (Long, u64, u64);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    of: Name,
    at: [u32; 2],
}

impl Call<'_> {
    /// Where the call goes on; `None` at its beginning.
    pub fn resume(&self, what: Long, argument: u64) -> Option<[u32; 2]> {
        let of = (what, argument, self.linear.space());
        self.vcpu
            .progress
            .lock()
            .take_if(|progress| progress.of == of)
            .map(|progress| progress.at)
    }

    /// Has the call go on from there.
    pub fn go_on(&self, what: Long, argument: u64, at: [u32; 2]) -> Stop {
        let of = (what, argument, self.linear.space());
        *self.vcpu.progress.lock() = Some(Progress { of, at });
        Stop::Again
    }
}
