//! How far a call got that is executed again, where its argument registers cannot say.
//!
//! A call may change its own argument registers and no others, and a kernel may keep values in the
//! others. So a call without a register for its progress leaves it in its vcpu: one place, which
//! names the call. A call that does not find its progress there begins anew: another task's call ran
//! on the vcpu meanwhile, or the task moved to another vcpu. Only calls for which that does no harm
//! may use it.

use super::{Call, Stop};

pub use crate::vcpu::Long;

impl Call<'_> {
    /// Where the call goes on; `None` at its beginning.
    pub fn resume(&self, what: Long, argument: u64) -> Option<[u32; 2]> {
        let of = (what, argument, self.linear.space());
        self.vcpu.take_progress(of)
    }

    /// Has the call go on from there.
    pub fn go_on(&self, what: Long, argument: u64, at: [u32; 2]) -> Stop {
        let of = (what, argument, self.linear.space());
        self.vcpu.keep_progress(of, at);
        Stop::Again
    }
}
