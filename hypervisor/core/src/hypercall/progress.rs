//! How far a call got that is executed again, where neither the domain that it is about nor its
//! argument registers can say: that is getdomaininfolist, whose only argument is a pointer.
//!
//! The vcpu keeps the progress (`vcpu/progress.rs`), and names the call by argument and address
//! space.

use super::{Call, DomainList, Stop};

impl Call<'_> {
    /// Where the call goes on; `None` at its beginning.
    pub fn resume(&self) -> Option<DomainList> {
        self.vcpu.take_progress((self.args[0], self.space()))
    }

    /// Has the call go on from there.
    pub fn go_on(&self, list: DomainList) -> Stop {
        let name = (self.args[0], self.space());
        self.vcpu.keep_progress(name, list);
        Stop::Again
    }
}
