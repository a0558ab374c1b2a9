//! Ethernet addresses of guests' cards.

use std::fmt;

/// The prefix that belongs to Xen guests.
const XEN: [u8; 3] = [0x00, 0x16, 0x3e];

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address of card `index` of the guest that `guest` names (its UUID, or its name if it
    /// gets a new UUID at each start): the same at each start, on each host.
    #[must_use]
    pub fn of_guest(guest: &str, index: u32) -> Self {
        Self::hashed(&format!("{guest}/{index}"))
    }

    /// A host's own address on a network that this toolset makes.
    #[must_use]
    pub fn of_bridge(name: &str) -> Self {
        Self::hashed(&format!("bridge {name}"))
    }

    /// FNV-1a, which spreads the few bytes well enough and will never change. The fourth byte stays
    /// below 0x80, as for all addresses that are made up under this prefix.
    fn hashed(text: &str) -> Self {
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let folded = (hash ^ hash >> 24 ^ hash >> 48).to_le_bytes();
        Self([
            XEN[0],
            XEN[1],
            XEN[2],
            folded[0] & 0x7f,
            folded[1],
            folded[2],
        ])
    }

    /// The link-local IPv6 address that a system derives from the MAC address (RFC 4291, appendix
    /// A).
    #[must_use]
    pub fn link_local(self) -> std::net::Ipv6Addr {
        let [a, b, c, d, e, f] = self.0.map(u16::from);
        std::net::Ipv6Addr::new(
            0xfe80,
            0,
            0,
            0,
            (a ^ 2) << 8 | b,
            c << 8 | 0xff,
            0xfe00 | d,
            e << 8 | f,
        )
    }
}

impl core::str::FromStr for Mac {
    type Err = String;

    /// Reads the printed form.
    fn from_str(text: &str) -> Result<Self, String> {
        let bytes: Option<Vec<u8>> = text
            .split(':')
            .map(|byte| u8::from_str_radix(byte, 16).ok())
            .collect();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no MAC address"))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn stable_and_different() {
        let one = Mac::of_guest("web", 0);
        assert_eq!(one, Mac::of_guest("web", 0));
        assert_eq!(one.to_string().parse(), Ok(one));
        assert!("00:16".parse::<Mac>().is_err());
        assert_eq!(one.to_string()[..9], *"00:16:3e:");
        let all: BTreeSet<Mac> = (0..40)
            .flat_map(|guest| (0..8).map(move |card| Mac::of_guest(&format!("guest{guest}"), card)))
            .collect();
        assert_eq!(all.len(), 320);
        assert!(all.iter().all(|mac| mac.0[3] < 0x80));
    }

    #[test]
    fn the_addresses_of_guests_never_change() {
        // Guests' own configuration files name these addresses.
        assert_eq!(Mac::of_guest("demo", 0).to_string(), "00:16:3e:51:88:09");
    }

    #[test]
    fn link_local() {
        let mac = Mac([0x00, 0x16, 0x3e, 0x12, 0x34, 0x56]);
        assert_eq!(mac.link_local().to_string(), "fe80::216:3eff:fe12:3456");
    }
}
