//! A device as a configuration describes it.

use crate::device::Device;
use crate::kind::Kind;
use crate::{vbd, vif};
use oxen_config::{DiskSpec, DomainConfig, VifSpec};
use oxen_domain::Result;
use serde::{Deserialize, Serialize};

/// The description of one device. Clients send it to xmd, whose journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spec {
    Vbd(DiskSpec),
    Vif(VifSpec),
}

impl Spec {
    /// Makes the device to be attached. Nothing is claimed yet.
    ///
    /// # Errors
    /// `Error` with the cause if the description asks for something that is not supported.
    pub fn device(&self) -> Result<Box<dyn Device>> {
        match self {
            Self::Vbd(disk) => Ok(Box::new(vbd::Disk::new(disk)?)),
            Self::Vif(vif) => Ok(Box::new(vif::Card::new(vif)?)),
        }
    }

    /// The kind of the device.
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

    /// Whether this is a CD drive without a disc. Such a drive stands in the configuration only: a
    /// guest's kernel that saw it would wait five minutes at the start, because no back end can
    /// connect.
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

    /// Fills in what the description leaves open, so that the device can be added to `config`.
    ///
    /// # Errors
    /// `Error` with the limit if the guest has as many devices of this kind as it can have.
    pub fn complete(&mut self, config: &DomainConfig) -> Result<()> {
        match self {
            Self::Vbd(_) => vbd::check_room(config, 1),
            Self::Vif(vif) => vif::add(config, vif),
        }
    }

    /// Adds the device to a configuration, so that the guest has it again after a restart.
    pub fn enter(&self, config: &mut DomainConfig) {
        match self {
            Self::Vbd(disk) => config.disks.push(disk.clone()),
            Self::Vif(vif) => config.vifs.push(vif.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_comes_later_needs_room_too() {
        let config = |disks: u8| {
            let disks: String = (0..disks)
                .map(|n| format!("'/a{n}.img,,xvd{}',", char::from(b'a' + n)))
                .collect();
            let text = format!(
                "name = 'demo'\ntype = 'pvh'\nkernel = '/boot/vmlinuz'\nmemory = 64\ndisk = [{disks}]\n"
            );
            let read = oxen_config::parse("demo.cfg", text.as_bytes(), &[]);
            read.expect("a configuration").config
        };
        let mut late = Spec::Vbd(config(1).disks.remove(0));
        late.complete(&config(15)).expect("room");
        late.complete(&config(16)).expect_err("no room");
    }
}
