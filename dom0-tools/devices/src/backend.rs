//! The functions of a kind for a device that is known by its nodes alone, perhaps attached by a
//! process that was killed since.

use crate::held::Held;
use crate::kind::Kind;
use crate::{vbd, vif};
use oxen_domain::Result;

impl Held {
    /// Whether dom0's driver has all that it needs.
    #[must_use]
    pub fn is_plugged(&self) -> bool {
        match self.kind {
            Kind::Vbd => vbd::is_plugged(self),
            Kind::Vif => vif::is_plugged(self),
        }
    }
}

/// Releases what dom0 held for a device whose driver has let go. Can be repeated.
///
/// # Errors
/// `Error` if something does not end.
pub(crate) fn release(held: &Held) -> Result<()> {
    match held.kind {
        Kind::Vbd => vbd::release(held),
        Kind::Vif => vif::release(held),
    }
}

/// Ends what a process that was killed left for devices that never came to be. `all` are the
/// devices of that kind that exist.
///
/// # Errors
/// `Error` if something does not end.
pub(crate) fn sweep(kind: Kind, all: &[Held]) -> Result<()> {
    match kind {
        Kind::Vbd => vbd::sweep(all),
        Kind::Vif => vif::sweep(all),
    }
}

/// The reason not to take a device away, if the guest uses it.
pub(crate) fn busy(held: &Held) -> Option<String> {
    match held.kind {
        Kind::Vbd => vbd::busy(held),
        Kind::Vif => None,
    }
}
