//! Abilities of the hardware that a back end has or has not.

use alloc::sync::Arc;

use crate::dev::lapic::{LapicImage, LapicPosted};

/// A local APIC in x2APIC mode that the hardware virtualizes: it delivers the APIC's interrupts and
/// completes them without exits, while the APIC is lent to it. VT-x with APIC-register
/// virtualization and virtual-interrupt delivery.
pub trait ApicAssist {
    /// Lends the local APIC to the hardware from the next entry on. Only while the vcpu is loaded.
    fn lend(&mut self, image: &LapicImage);
    /// Takes the local APIC back from the hardware. Returns the registers that the hardware may
    /// have modified, or `None` if the APIC was not lent. Only while the vcpu is loaded.
    fn take_back(&mut self) -> Option<LapicImage>;
    /// Sets the descriptor to which vectors for this APIC are posted. Before the vcpu is first
    /// loaded.
    fn set_posted(&mut self, posted: &Arc<LapicPosted>);
    /// Whether a notification IPI makes the CPU deliver posted vectors without an exit, while the
    /// APIC is lent. Otherwise the notification makes the CPU leave the guest.
    fn delivers_posted(&self) -> bool;
}

/// A timer of the hardware that ends a run by itself: the preemption timer of VT-x.
pub trait RunDeadline {
    /// Runs end, as for a host interrupt, when the host's TSC reaches `tsc`; with `None` they do
    /// not.
    fn set_deadline(&mut self, tsc: Option<u64>);
}
