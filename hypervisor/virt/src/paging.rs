//! The registers of a vcpu that rule its guest's paging.

use oxen_paging::walk::{Limits, Paging};

use crate::backend::Execution;
use crate::x86::RFLAGS_AC;

impl Execution {
    /// Returns what the walk of the guest's page tables needs, with the limits that CPUID shows the
    /// guest.
    pub fn paging(&self, limits: Limits) -> Paging {
        Paging {
            cr0: self.cr0,
            cr3: self.cr3,
            cr4: self.cr4,
            efer: self.efer,
            ac: self.rflags & RFLAGS_AC != 0,
            limits,
        }
    }
}
