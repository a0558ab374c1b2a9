//! The virtual IO-APICs of the hardware domain: one for each of the host's, with the same address,
//! pins and GSIs (82093AA data sheet; "I/O xAPIC" of the chipset manuals for the EOI register).
//!
//! The domain programs these; the host's own redirection entries, which aim at host vectors,
//! follow: an entry's first unmask configures the GSI with the domain's trigger and polarity. A
//! level GSI stays masked in the host from its arrival to the domain's EOI; unmasking it then
//! samples the line again, because a line that is still asserted fires at once. So no line state is
//! kept here.
//!
//! Invariant: a GSI is unmasked in the host only while its entry is unmasked, configured, and not
//! waiting for an EOI (remote IRR).
//!
//! Locking: the caller serialises all calls; [`IoApicHost::deliver`] only posts to local APICs.

mod pin;
mod registers;

#[cfg(test)]
mod tests;

use alloc::vec::Vec;

pub use registers::IoApicConfig;

use oxen_types::{Polarity, Trigger};

use crate::dev::message::Message;
use registers::IoApic;

/// The kernel's services for the domain's IO-APICs.
pub trait IoApicHost {
    /// Hands the message to the domain's local APICs; returns whether one of them took it.
    fn deliver(&mut self, message: &Message) -> bool;
    /// Routes the (masked) GSI to a host vector, with this trigger and polarity. False: the GSI is
    /// not for this domain, or there is no vector; it then stays masked.
    fn gsi_configure(&mut self, gsi: u32, trigger: Trigger, polarity: Polarity) -> bool;
    fn gsi_mask(&mut self, gsi: u32);
    fn gsi_unmask(&mut self, gsi: u32);
}

/// All IO-APICs of a domain.
#[derive(Debug, Default)]
pub struct IoApics {
    all: Vec<IoApic>,
}

impl IoApics {
    pub fn new(configs: &[IoApicConfig]) -> Self {
        Self {
            all: configs.iter().map(IoApic::new).collect(),
        }
    }

    /// Whether an access of `gpa` belongs to one of the IO-APICs.
    pub fn claims(&self, gpa: u64) -> bool {
        self.all.iter().any(|ioapic| ioapic.offset(gpa).is_some())
    }

    /// `None`: nobody's address.
    pub fn mmio_read(&self, gpa: u64, size: u32) -> Option<u32> {
        self.all
            .iter()
            .find_map(|ioapic| Some(ioapic.mmio_read(ioapic.offset(gpa)?, size)))
    }

    /// Returns whether the address was ours.
    pub fn mmio_write(
        &mut self,
        gpa: u64,
        size: u32,
        value: u32,
        host: &mut impl IoApicHost,
    ) -> bool {
        for ioapic in &mut self.all {
            if let Some(offset) = ioapic.offset(gpa) {
                ioapic.mmio_write(offset, size, value, host);
                return true;
            }
        }
        false
    }

    /// A host interrupt for `gsi` arrived. To be called before the host's local APIC gets its EOI:
    /// a level GSI is masked here. Returns false if no pin belongs to the GSI.
    pub fn arrive(&mut self, gsi: u32, host: &mut impl IoApicHost) -> bool {
        match self.all.iter_mut().find_map(|ioapic| ioapic.pin_of(gsi)) {
            Some(pin) => {
                pin.arrive(host);
                true
            }
            None => false,
        }
    }

    /// A local APIC of the domain completed a level-triggered vector.
    pub fn eoi(&mut self, vector: u8, host: &mut impl IoApicHost) {
        for ioapic in &mut self.all {
            ioapic.eoi(vector, host);
        }
    }

    /// Back to power-on: all pins masked, here and in the host.
    pub fn reset(&mut self, host: &mut impl IoApicHost) {
        for ioapic in &mut self.all {
            ioapic.reset(host);
        }
    }
}
