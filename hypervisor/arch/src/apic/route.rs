//! Redirection entries of an IO-APIC (82093AA, 3.2.4), as values.

use oxen_types::{Polarity, Trigger};

const LEVEL: u64 = 1 << 15;
const ACTIVE_LOW: u64 = 1 << 13;
pub(super) const MASKED: u64 = 1 << 16;

/// A redirection entry, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// The vector that is delivered.
    pub vector: u8,
    /// APIC id of the CPU that gets the interrupt.
    pub destination: u8,
    /// Edge or level.
    pub trigger: Trigger,
    /// High or low.
    pub polarity: Polarity,
    /// No interrupt is delivered.
    pub masked: bool,
}

pub(super) fn encode(route: Route) -> u64 {
    u64::from(route.vector)
        | u64::from(route.destination) << 56
        | if route.trigger == Trigger::Level {
            LEVEL
        } else {
            0
        }
        | if route.polarity == Polarity::Low {
            ACTIVE_LOW
        } else {
            0
        }
        | if route.masked { MASKED } else { 0 }
}

#[cfg(test)]
fn decode(entry: u64) -> Route {
    Route {
        vector: entry as u8,
        destination: (entry >> 56) as u8,
        trigger: if entry & LEVEL != 0 {
            Trigger::Level
        } else {
            Trigger::Edge
        },
        polarity: if entry & ACTIVE_LOW != 0 {
            Polarity::Low
        } else {
            Polarity::High
        },
        masked: entry & MASKED != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_what_was_put_in() {
        for trigger in [Trigger::Edge, Trigger::Level] {
            for polarity in [Polarity::High, Polarity::Low] {
                for masked in [false, true] {
                    let route = Route {
                        vector: 0x31,
                        destination: 7,
                        trigger,
                        polarity,
                        masked,
                    };
                    assert_eq!(decode(encode(route)), route);
                }
            }
        }
    }
}
