//! The kinds of devices, and how users name a device of each kind.

use core::fmt;
use oxen_config::DomainConfig;
use oxen_config::spec::vdev;
use oxen_domain::{Error, Result};
use oxen_net::Mac;
use serde::{Deserialize, Serialize};

/// A kind of device, by the driver that serves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Vbd,
    Vif,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Vbd, Self::Vif];

    /// The name of the kind's directories in the store and in dom0's sysfs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vbd => "vbd",
            Self::Vif => "vif",
        }
    }

    /// The word for a device of this kind in messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Vbd => "disk",
            Self::Vif => "network card",
        }
    }

    /// The beginning of xm's commands about this kind: "block" as in `block-list`.
    #[must_use]
    pub const fn command(self) -> &'static str {
        match self {
            Self::Vbd => "block",
            Self::Vif => "network",
        }
    }

    /// The kernel module of dom0's driver.
    pub(crate) const fn module(self) -> &'static str {
        match self {
            Self::Vbd => "xen-blkback",
            Self::Vif => "xen-netback",
        }
    }

    /// The MAC address by which a user names a card, in the store's spelling. `None` if `named` is
    /// no address, or devices of this kind have none.
    pub(crate) fn address(self, named: &str) -> Option<String> {
        match self {
            Self::Vbd => None,
            Self::Vif => address(named),
        }
    }

    /// The number of a device that a user names.
    ///
    /// # Errors
    /// `Error` that quotes `named` if it is neither a number nor a name of this kind of device.
    pub fn id(self, named: &str) -> Result<u32> {
        if let Ok(number) = named.parse() {
            return Ok(number);
        }
        let id = match self {
            Self::Vbd => vdev::number(named),
            Self::Vif => card_number(named),
        };
        id.ok_or_else(|| {
            Error::new(
                format!("cannot find {named}"),
                format!("it is no name of a {}", self.word()),
            )
        })
    }

    /// The name by which users know the device of that number.
    #[must_use]
    pub fn title(self, id: u32) -> String {
        match self {
            Self::Vbd => vdev::name(id),
            Self::Vif => id.to_string(),
        }
    }

    /// Removes the device of that number from a configuration.
    pub fn leave(self, config: &mut DomainConfig, id: u32) {
        match self {
            Self::Vbd => config
                .disks
                .retain(|disk| vdev::number(&disk.vdev) != Some(id)),
            Self::Vif => config.vifs.retain(|vif| vif.devid != Some(id)),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A MAC address in the store's spelling.
fn address(named: &str) -> Option<String> {
    let mac: Mac = named.parse().ok()?;
    Some(mac.to_string())
}

/// The number of a card that a user names by number, or as `eth0`.
fn card_number(named: &str) -> Option<u32> {
    named.strip_prefix("eth").unwrap_or(named).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(card_number("eth1"), Some(1));
        assert_eq!(card_number("3"), Some(3));
        assert_eq!(card_number("xvda"), None);
    }
}
