//! A guest CPU of one kind, as the loop of a physical CPU drives it.
//!
//! The loop ([`crate::run`]) knows what all kinds have in common: interrupts, timers, the slice,
//! the flush protocol. A kind knows its registers and exits. There is one kind today, run by
//! virtualization hardware ([`crate::exits::Cx`]).

use oxen_virt::PhysCpu;

/// The virtualization hardware of the CPU that runs this; `None` on a machine that has none.
pub(crate) type Phys = Option<PhysCpu>;

/// A guest CPU whose context is locked by the CPU that runs it.
pub(crate) trait Runner {
    /// Why the guest was left.
    type Exit;

    /// Takes the physical CPU: its registers are the guest's to change from here on.
    fn load(&mut self, phys: &mut Phys);

    /// Gives the physical CPU up. Afterwards the guest CPU can be loaded anywhere.
    fn unload(&mut self, phys: &mut Phys);

    /// Brings what was posted (INIT, SIPI, NMI, timers, interrupts) into the guest. False if it
    /// cannot run after all.
    fn prepare(&mut self, now: u64) -> bool;

    /// The next entry ends by itself at the time that `at` returns, in ns; with `None` it does not.
    /// Returns false, and has not called `at`, if entries of this kind cannot end by themselves.
    fn set_deadline(&mut self, at: impl FnOnce() -> Option<u64>) -> bool;

    /// Forgets translations that are older than the domain's flush generation. The CPU counts as
    /// inside already.
    fn catch_up(&mut self);

    /// Whether the tables that the CPU is about to use are up to date. The CPU counts as inside
    /// already.
    fn is_ready(&self) -> bool;

    /// Brings those tables up to date. The CPU does not count as inside.
    fn make_ready(&mut self);

    /// Enters the guest once, with interrupts off before and after.
    fn enter(&mut self, phys: &mut Phys) -> Self::Exit;

    /// Does what an exit asks for.
    fn handle(&mut self, exit: Self::Exit);
}
