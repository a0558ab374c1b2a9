//! One pin: its redirection entry, and how the host's entry follows it.

use oxen_types::{Polarity, Trigger};

use super::IoApicHost;
use crate::dev::message::{Delivery, Destination, Message};

const LOGICAL: u32 = 1 << 11;
const LOW_ACTIVE: u32 = 1 << 13;
const REMOTE_IRR: u32 = 1 << 14;
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
/// Without delivery status (12, always idle) and remote IRR (14), which are read-only.
const WRITABLE: u32 = 0xff | 7 << 8 | LOGICAL | LOW_ACTIVE | LEVEL | MASKED;

#[derive(Clone, Debug)]
pub(super) struct Pin {
    gsi: u32,
    entry: u32,
    dest: u8,
    remote_irr: bool,
    /// How the host's entry was set up.
    configured: Option<(Trigger, Polarity)>,
    host_unmasked: bool,
}

impl Pin {
    pub(super) fn new(gsi: u32) -> Self {
        Self {
            gsi,
            entry: MASKED,
            dest: 0,
            remote_irr: false,
            configured: None,
            host_unmasked: false,
        }
    }

    #[cfg(test)]
    pub(super) fn gsi(&self) -> u32 {
        self.gsi
    }

    pub(super) fn low(&self) -> u32 {
        self.entry | if self.remote_irr { REMOTE_IRR } else { 0 }
    }

    pub(super) fn high(&self) -> u32 {
        u32::from(self.dest) << 24
    }

    pub(super) fn write_high(&mut self, value: u32) {
        self.dest = (value >> 24) as u8;
    }

    pub(super) fn write_low(&mut self, value: u32, host: &mut impl IoApicHost) {
        self.entry = value & WRITABLE;
        if self.trigger() == Trigger::Edge {
            // Also the way to complete an interrupt by hand: level to edge and back.
            self.remote_irr = false;
        }
        self.follow(host);
    }

    pub(super) fn reset(&mut self, host: &mut impl IoApicHost) {
        self.dest = 0;
        self.write_low(MASKED, host);
    }

    pub(super) fn arrive(&mut self, host: &mut impl IoApicHost) {
        let level = self
            .configured
            .is_some_and(|(trigger, _)| trigger == Trigger::Level);
        if level {
            host.gsi_mask(self.gsi);
            self.host_unmasked = false;
        }
        if self.masked() || self.remote_irr {
            // Raced with a mask. Lost if edge, as on hardware; a level comes again at unmask.
            return;
        }
        let Some(message) = self.message() else {
            return;
        };
        let taken = host.deliver(&message);
        // Without a taker there will be no EOI: a level GSI then waits, masked, for the next write
        // of its entry.
        self.remote_irr = taken && message.level && message.delivery.has_vector();
    }

    pub(super) fn eoi(&mut self, vector: u8, host: &mut impl IoApicHost) {
        if self.remote_irr && self.entry as u8 == vector {
            self.remote_irr = false;
            self.follow(host);
        }
    }

    /// Brings the host's entry in line with the domain's.
    fn follow(&mut self, host: &mut impl IoApicHost) {
        let wanted = !self.masked() && !self.remote_irr;
        let setup = (self.trigger(), self.polarity());
        let stale = wanted && self.configured != Some(setup);
        if self.host_unmasked && (!wanted || stale) {
            host.gsi_mask(self.gsi);
            self.host_unmasked = false;
        }
        if stale {
            let (trigger, polarity) = setup;
            self.configured = host
                .gsi_configure(self.gsi, trigger, polarity)
                .then_some(setup);
        }
        if wanted && !self.host_unmasked && self.configured.is_some() {
            self.host_unmasked = true;
            host.gsi_unmask(self.gsi);
        }
    }

    fn message(&self) -> Option<Message> {
        Some(Message {
            dest: Destination::narrow(self.dest, self.entry & LOGICAL != 0),
            delivery: Delivery::from_bits(self.entry >> 8)?,
            vector: self.entry as u8,
            level: self.trigger() == Trigger::Level,
        })
    }

    fn masked(&self) -> bool {
        self.entry & MASKED != 0
    }

    fn trigger(&self) -> Trigger {
        match self.entry & LEVEL {
            0 => Trigger::Edge,
            _ => Trigger::Level,
        }
    }

    fn polarity(&self) -> Polarity {
        match self.entry & LOW_ACTIVE {
            0 => Polarity::High,
            _ => Polarity::Low,
        }
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        assert!(!self.host_unmasked || !self.masked() && !self.remote_irr);
        assert!(!self.host_unmasked || self.configured == Some((self.trigger(), self.polarity())));
        assert!(!self.remote_irr || self.trigger() == Trigger::Level);
    }
}
