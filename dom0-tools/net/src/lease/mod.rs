//! The addresses that are given away on the NAT network: a file for each, named after the address,
//! with the MAC address in it. A file appears whole or not at all, and only the first process to
//! make it succeeds. So any number of processes may read and add, and be killed, at any time.

use crate::network::Subnet;
use crate::{Error, Mac, Result};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::{fs, process};

/// The directory of the files.
pub const DIRECTORY: &str = "/run/xen/net/nat";

/// The addresses given away.
#[derive(Debug, Clone)]
pub struct Leases {
    directory: PathBuf,
}

impl Leases {
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// The address of the card with that MAC address, if it has one.
    ///
    /// # Errors
    /// `Error` if the directory cannot be read.
    pub fn find(&self, mac: Mac) -> Result<Option<Ipv4Addr>> {
        let all = self.all()?;
        Ok(all
            .into_iter()
            .find(|(_, owner)| *owner == mac.to_string())
            .map(|(address, _)| address))
    }

    /// Gives a card the address it wants, or else the one it had, or else a free one.
    ///
    /// # Errors
    /// `Error` if the wanted address is another's or not of the network, if none is free, or if the
    /// file system refuses.
    pub fn assign(&self, mac: Mac, wanted: Option<Ipv4Addr>, subnet: Subnet) -> Result<Ipv4Addr> {
        let what = || format!("cannot give {mac} an address on the NAT network");
        let fail = |error: io::Error| Error::new(what(), error);
        fs::create_dir_all(&self.directory).map_err(fail)?;
        if let Some(address) = wanted {
            if !subnet.has(address) {
                return Err(Error::new(what(), format!("{address} is none of {subnet}"))
                    .remedy("choose another ip=, or leave it out"));
            }
            if !self.take(address, mac).map_err(fail)?
                && self.owner(address) != Some(mac.to_string())
            {
                return Err(
                    Error::new(what(), format!("{address} belongs to another guest"))
                        .remedy("choose another ip=, or leave it out"),
                );
            }
            self.drop_all(mac, Some(address))?;
            return Ok(address);
        }
        let had = self.find(mac)?;
        if let Some(address) = had.filter(|address| subnet.has(*address)) {
            return Ok(address);
        }
        // Each card begins to look at its own place, so it will likely have the same one again
        // later.
        let all: Vec<_> = subnet.guests().collect();
        let start = usize::from(u16::from_be_bytes([mac.0[4], mac.0[5]])) % all.len().max(1);
        for address in all.iter().cycle().skip(start).take(all.len()).copied() {
            if self.take(address, mac).map_err(fail)? {
                return Ok(address);
            }
        }
        Err(
            Error::new(what(), format!("all addresses of {subnet} are given away"))
                .remedy("set a larger network by vif.default.nat in /etc/xen/xl.conf"),
        )
    }

    /// Releases the address of a card that is gone.
    ///
    /// # Errors
    /// `Error` of the file system.
    pub fn release(&self, mac: Mac) -> Result<()> {
        self.drop_all(mac, None)
    }

    /// Releases all addresses but those of these cards.
    ///
    /// # Errors
    /// `Error` of the file system.
    pub fn retain(&self, macs: &[Mac]) -> Result<()> {
        self.drop_if(|_, owner| macs.iter().all(|mac| mac.to_string() != owner))
    }

    fn drop_all(&self, mac: Mac, but: Option<Ipv4Addr>) -> Result<()> {
        self.drop_if(|address, owner| owner == mac.to_string() && Some(address) != but)
    }

    fn drop_if(&self, unwanted: impl Fn(Ipv4Addr, &str) -> bool) -> Result<()> {
        for (address, owner) in self.all()? {
            if unwanted(address, &owner) {
                let path = self.directory.join(address.to_string());
                fs::remove_file(&path).map_err(|error| {
                    Error::new(format!("cannot remove {}", path.display()), error)
                })?;
            }
        }
        Ok(())
    }

    fn all(&self) -> Result<Vec<(Ipv4Addr, String)>> {
        let fail = |error| Error::new(format!("cannot read {}", self.directory.display()), error);
        let files = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(fail)?,
        };
        let mut all = Vec::new();
        for file in files {
            let name = file.map_err(fail)?.file_name();
            let address = name.to_str().and_then(|name| name.parse().ok());
            // The address may have been released since it was listed.
            if let Some(address) = address
                && let Some(owner) = self.owner(address)
            {
                all.push((address, owner));
            }
        }
        Ok(all)
    }

    fn owner(&self, address: Ipv4Addr) -> Option<String> {
        let text = fs::read_to_string(self.directory.join(address.to_string())).ok()?;
        Some(text.trim_end().to_owned())
    }

    /// Takes an address for a card. False if another card has it.
    fn take(&self, address: Ipv4Addr, mac: Mac) -> io::Result<bool> {
        let path = self.directory.join(address.to_string());
        if path.exists() {
            return Ok(false);
        }
        let new = self
            .directory
            .join(format!(".{address}.{}.{mac}", process::id()));
        fs::File::create(&new)?.write_all(format!("{mac}\n").as_bytes())?;
        let linked = fs::hard_link(&new, &path);
        fs::remove_file(&new)?;
        match linked {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            other => other.map(|()| true),
        }
    }
}

#[cfg(test)]
mod tests;
