//! sysctl: to come.

use oxen_types::Errno;

use crate::hypercall::{Answer, Call};

pub fn call(_call: &mut Call<'_>) -> Answer {
    Err(Errno::NoSys.into())
}
