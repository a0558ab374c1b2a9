//! The seam between attaching, which is the same for all kinds, and a kind.

use crate::guest::Guest;
use crate::kind::Kind;
use crate::nodes::Nodes;
use oxen_domain::Result;
use oxen_domain::world::Store;

/// A device to be attached. Dropping it releases what it claimed, unless the driver holds that by
/// then.
pub trait Device {
    fn kind(&self) -> Kind;
    fn id(&self) -> u32;

    /// Checks all that can be checked, then takes what dom0 must hold for the device. Returns the
    /// nodes for the store.
    ///
    /// # Errors
    /// `Error` of the check or step that failed; nothing is held then.
    fn claim(&mut self, guest: &Guest<'_>, store: &mut dyn Store) -> Result<Nodes>;

    /// Gives dom0's driver, which is in `InitWait`, what it waits for. Returns more nodes of the
    /// back end, such as `hotplug-status`.
    ///
    /// # Errors
    /// `Error` of the kernel's interface that refused; the caller removes the device.
    fn plug(&mut self, guest: &Guest<'_>) -> Result<Vec<(&'static str, String)>>;

    /// Whether the driver has taken the device. The caller repeats the call until it returns true,
    /// the driver reports an error, or the time is over.
    fn is_plugged(&mut self, guest: &Guest<'_>) -> bool;
}
