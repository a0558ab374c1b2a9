//! The networks that a guest's card can be on, and the choice among them.

use crate::{Error, Result};
use oxen_config::syntax::{self, Value};
use oxen_config::{VifNetwork, VifSpec};
use std::net::Ipv4Addr;
use std::path::Path;

/// The bridge of the NAT network.
pub const NAT_BRIDGE: &str = "xmnat0";
/// The beginning of the names of private networks' bridges; the network's name follows.
pub const PRIVATE_PREFIX: &str = "xmp-";
/// The file of settings, which hosts of xl have too.
pub const SETTINGS: &str = "/etc/xen/xl.conf";
/// Every tool's name for the bridge to the outside.
const USUAL_BRIDGE: &str = "xenbr0";

/// A network of guests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// A bridge of the host's administrator.
    Bridge(String),
    /// The NAT network, with DHCP and a way out under the host's own address.
    Nat,
    /// A network of guests only: the host has no address on it.
    Private(String),
}

impl Network {
    /// The network of a card: that of its configuration, else that of the host's settings, else the
    /// usual bridge if it `exists`, else NAT.
    #[must_use]
    pub fn of(vif: &VifSpec, settings: &Settings, exists: impl FnOnce(&str) -> bool) -> Self {
        match (&vif.bridge, &vif.network, &settings.bridge) {
            (Some(name), _, _) => Self::Bridge(name.clone()),
            (None, Some(VifNetwork::Nat), _) => Self::Nat,
            (None, Some(VifNetwork::Private(name)), _) => Self::Private(name.clone()),
            (None, None, Some(name)) => Self::Bridge(name.clone()),
            (None, None, None) if exists(USUAL_BRIDGE) => Self::Bridge(USUAL_BRIDGE.to_owned()),
            (None, None, None) => Self::Nat,
        }
    }

    /// The name of the network's bridge.
    #[must_use]
    pub fn bridge(&self) -> String {
        match self {
            Self::Bridge(name) => name.clone(),
            Self::Nat => NAT_BRIDGE.to_owned(),
            Self::Private(name) => format!("{PRIVATE_PREFIX}{name}"),
        }
    }

    /// The network that has this bridge.
    #[must_use]
    pub fn of_bridge(bridge: &str) -> Self {
        match bridge.strip_prefix(PRIVATE_PREFIX) {
            Some(name) => Self::Private(name.to_owned()),
            None if bridge == NAT_BRIDGE => Self::Nat,
            None => Self::Bridge(bridge.to_owned()),
        }
    }
}

/// The settings of the host's administrator for all guests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `vif.default.bridge`
    pub bridge: Option<String>,
    /// `vif.default.nat`: the host's own address on the NAT network, and the network's size.
    pub nat: Subnet,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bridge: None,
            nat: Subnet {
                host: Ipv4Addr::new(10, 87, 0, 1),
                prefix: 24,
            },
        }
    }
}

impl Settings {
    /// Reads the file. If there is none, all settings have their defaults.
    ///
    /// # Errors
    /// `Error` if the file cannot be read or has a setting that is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let fail = |cause: String| Error::new(format!("cannot use {name}"), cause);
        match std::fs::read(path) {
            Ok(bytes) => Self::parse(&name, &bytes).map_err(fail),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(fail(error.to_string())),
        }
    }

    fn parse(name: &str, bytes: &[u8]) -> Result<Self, String> {
        let file = syntax::parse_bytes(name, bytes).map_err(|errors| {
            let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
            lines.join("; ")
        })?;
        let text = |key: &str| match file.get(key).map(|setting| &setting.item.value) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text.clone())),
            Some(_) => Err(format!("{key} must be a string")),
        };
        let mut settings = Self {
            bridge: text("vif.default.bridge")?.filter(|name| !name.is_empty()),
            ..Self::default()
        };
        if let Some(nat) = text("vif.default.nat")? {
            settings.nat = nat.parse()?;
        }
        Ok(settings)
    }
}

/// The host's address on a network, with the network's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    pub host: Ipv4Addr,
    pub prefix: u8,
}

impl Subnet {
    #[must_use]
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::MAX << (32 - u32::from(self.prefix)))
    }

    /// The network's own address, which no host has.
    #[must_use]
    pub fn base(self) -> Ipv4Addr {
        self.host & self.mask()
    }

    #[must_use]
    pub fn broadcast(self) -> Ipv4Addr {
        self.host | !self.mask()
    }

    /// Whether a guest may have that address.
    #[must_use]
    pub fn has(self, address: Ipv4Addr) -> bool {
        address & self.mask() == self.base()
            && address != self.base()
            && address != self.broadcast()
            && address != self.host
    }

    /// Every address that a guest may have.
    pub fn guests(self) -> impl Iterator<Item = Ipv4Addr> {
        (self.base().to_bits()..=self.broadcast().to_bits())
            .map(Ipv4Addr::from_bits)
            .filter(move |address| self.has(*address))
    }
}

impl core::str::FromStr for Subnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not of the form 10.87.0.1/24");
        let (host, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let host = host.parse().map_err(|_| wrong())?;
        let prefix = prefix.parse().map_err(|_| wrong())?;
        // Room for a few guests, and not so many files that looking for a free one takes long.
        if !(16..=29).contains(&prefix) {
            return Err(format!(
                "{text}: the network's size must be from /16 to /29"
            ));
        }
        let subnet = Self { host, prefix };
        if host == subnet.base() || host == subnet.broadcast() {
            return Err(format!(
                "{text}: the host cannot have the first or the last address"
            ));
        }
        Ok(subnet)
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.host, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(vif: &str, settings: &str, usual: bool) -> Network {
        let vif = oxen_config::spec::vif::parse(vif).expect("a vif");
        let settings = Settings::parse("xl.conf", settings.as_bytes()).expect("settings");
        Network::of(&vif, &settings, |_| usual)
    }

    #[test]
    fn the_network_of_a_card() {
        let bridge = |name: &str| Network::Bridge(name.to_owned());
        assert_eq!(network("", "", false), Network::Nat);
        assert_eq!(network("", "", true), bridge("xenbr0"));
        assert_eq!(
            network("", "vif.default.bridge=\"br1\"", true),
            bridge("br1")
        );
        assert_eq!(
            network("bridge=br0", "vif.default.bridge=\"br1\"", true),
            bridge("br0")
        );
        assert_eq!(
            network("network=nat", "vif.default.bridge=\"br1\"", true),
            Network::Nat
        );
        let blue = network("network=private:blue", "", true);
        assert_eq!(blue.bridge(), "xmp-blue");
        assert_eq!(Network::of_bridge("xmp-blue"), blue);
        assert_eq!(Network::of_bridge(NAT_BRIDGE), Network::Nat);
    }

    #[test]
    fn settings_of_other_tools_do_not_disturb() {
        let settings = Settings::parse(
            "xl.conf",
            b"autoballoon=\"off\"\nvif.default.nat=\"192.168.5.1/28\"\n",
        )
        .expect("settings");
        assert_eq!(settings.nat.to_string(), "192.168.5.1/28");
        assert!(Settings::parse("xl.conf", b"vif.default.nat=\"10.0.0.0/24\"").is_err());
        assert!(Settings::parse("xl.conf", b"vif.default.nat=5").is_err());
        assert!(Settings::parse("xl.conf", b"vif.default.nat=\"10.0.0.1/8\"").is_err());
    }

    #[test]
    fn addresses_of_guests() {
        let subnet: Subnet = "10.87.0.1/29".parse().expect("a subnet");
        let all: Vec<_> = subnet.guests().map(|address| address.octets()[3]).collect();
        assert_eq!(all, [2, 3, 4, 5, 6]);
        assert!(!subnet.has(Ipv4Addr::new(10, 87, 1, 2)));
        assert_eq!(subnet.mask().to_string(), "255.255.255.248");
    }
}
