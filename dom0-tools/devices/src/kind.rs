//! The kinds of devices, and what each must know.

use crate::bus::Guest;
use crate::held::Held;
use crate::{vbd, vif};
use core::fmt;
use oxen_config::{DiskSpec, DomainConfig, VifSpec};
use oxen_domain::ports::Store;
use oxen_domain::{Error, Result};
use serde::{Deserialize, Serialize};

/// Which driver serves it; the name is that of its directories in the store and in dom0's sysfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Vbd,
    Vif,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Vbd, Self::Vif];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vbd => "vbd",
            Self::Vif => "vif",
        }
    }

    /// What people call it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Vbd => "disk",
            Self::Vif => "network card",
        }
    }

    /// How commands about it begin: `block-list`.
    #[must_use]
    pub const fn command(self) -> &'static str {
        match self {
            Self::Vbd => "block",
            Self::Vif => "network",
        }
    }

    /// dom0's driver.
    pub(crate) const fn module(self) -> &'static str {
        match self {
            Self::Vbd => "xen-blkback",
            Self::Vif => "xen-netback",
        }
    }

    /// The address that a user names a device by, as it stands in the store.
    pub(crate) fn address(self, named: &str) -> Option<String> {
        match self {
            Self::Vbd => None,
            Self::Vif => vif::address(named),
        }
    }

    /// The number of a device that a user names.
    ///
    /// # Errors
    /// It is no name of such a device.
    pub fn id(self, named: &str) -> Result<u32> {
        if let Ok(number) = named.parse() {
            return Ok(number);
        }
        let id = match self {
            Self::Vbd => vbd::vdev::number(named),
            Self::Vif => vif::number(named),
        };
        id.ok_or_else(|| {
            Error::new(
                format!("cannot find {named}"),
                format!("it is no name of a {}", self.word()),
            )
        })
    }

    /// How a user would call the device of that number.
    #[must_use]
    pub fn title(self, id: u32) -> String {
        match self {
            Self::Vbd => vbd::vdev::name(id),
            Self::Vif => id.to_string(),
        }
    }

    /// Takes the device of that number out of a configuration.
    pub fn leave(self, config: &mut DomainConfig, id: u32) {
        match self {
            Self::Vbd => config
                .disks
                .retain(|disk| vbd::vdev::number(&disk.vdev) != Some(id)),
            Self::Vif => config.vifs.retain(|vif| vif.devid != Some(id)),
        }
    }

    /// Gives back what dom0 held for a device whose driver has let go. Can be repeated.
    pub(crate) fn release(self, held: &Held) -> Result<()> {
        match self {
            Self::Vbd => vbd::release(held),
            Self::Vif => vif::release(held),
        }
    }

    /// Ends what a process that was killed left for devices that never came to be. `all` are those
    /// that are there.
    pub(crate) fn sweep(self, all: &[Held]) -> Result<()> {
        match self {
            Self::Vbd => vbd::sweep(all),
            Self::Vif => vif::sweep(all),
        }
    }

    /// Whether the driver has all that it needs.
    pub(crate) fn is_plugged(self, held: &Held) -> bool {
        match self {
            Self::Vbd => vbd::is_plugged(held),
            Self::Vif => vif::is_plugged(held),
        }
    }

    /// The reason not to take a device away, if the guest is using it.
    pub(crate) fn busy(self, held: &Held) -> Option<String> {
        match self {
            Self::Vbd => vbd::busy(held),
            Self::Vif => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A device as a configuration describes it. This travels to the daemon and stands in its journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spec {
    Vbd(DiskSpec),
    Vif(VifSpec),
}

impl Spec {
    /// The device, nothing done for it yet.
    ///
    /// # Errors
    /// The description cannot be fulfilled.
    pub fn device(&self) -> Result<Box<dyn Device>> {
        match self {
            Self::Vbd(disk) => Ok(Box::new(vbd::Disk::new(disk)?)),
            Self::Vif(vif) => Ok(Box::new(vif::Card::new(vif)?)),
        }
    }

    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Vbd(_) => Kind::Vbd,
            Self::Vif(_) => Kind::Vif,
        }
    }

    /// The device's number, if the description determines it.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        match self {
            Self::Vbd(disk) => vbd::vdev::number(&disk.vdev),
            Self::Vif(vif) => vif.devid,
        }
    }

    /// A CD drive without a disc is in the configuration only. A guest's kernel that saw it would wait five
    /// minutes for it at the start, as nobody can connect to it.
    #[must_use]
    pub fn is_empty_drive(&self) -> bool {
        matches!(self, Self::Vbd(disk) if disk.target.is_empty())
    }

    /// All devices of a configuration, in the order in which they are attached.
    #[must_use]
    pub fn all(config: &DomainConfig) -> Vec<Self> {
        let disks = config.disks.iter().cloned().map(Self::Vbd);
        disks
            .chain(config.vifs.iter().cloned().map(Self::Vif))
            .collect()
    }

    /// Settles what the description leaves open: it is to be one more device of that configuration.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn complete(&mut self, config: &DomainConfig) -> Result<()> {
        match self {
            Self::Vbd(_) => vbd::room(config, 1),
            Self::Vif(vif) => vif::add(config, vif),
        }
    }

    /// Makes it a part of a configuration, so that the guest has it again after a restart.
    pub fn enter(&self, config: &mut DomainConfig) {
        match self {
            Self::Vbd(disk) => config.disks.push(disk.clone()),
            Self::Vif(vif) => config.vifs.push(vif.clone()),
        }
    }
}

/// What goes into the two directories, beside what all kinds have (the links to each other, `state`,
/// `online`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nodes {
    pub front: Vec<(&'static str, String)>,
    pub back: Vec<(&'static str, String)>,
    /// What whoever gives out the device should know about it.
    pub warnings: Vec<String>,
}

/// A device to be attached. Dropping it gives back what it claimed, unless the driver holds that by then.
pub trait Device {
    fn kind(&self) -> Kind;
    fn id(&self) -> u32;

    /// Takes what dom0 must hold for it, after checking all that can be checked.
    ///
    /// # Errors
    /// Nothing is held then.
    fn claim(&mut self, guest: &Guest<'_>, store: &mut dyn Store) -> Result<Nodes>;

    /// The driver is there (`InitWait`): gives it what it waits for. Returns more nodes of the back end,
    /// such as `hotplug-status`.
    ///
    /// # Errors
    /// The device will be taken away.
    fn plug(&mut self, guest: &Guest<'_>) -> Result<Vec<(&'static str, String)>>;

    /// Whether the driver has taken it. Asked again until it says yes, or reports an error, or the
    /// time is over.
    fn is_plugged(&mut self, guest: &Guest<'_>) -> bool;
}
