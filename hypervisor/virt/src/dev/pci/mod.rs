//! Virtual PCI for the hardware domain: it configures the machine's devices itself, and we watch
//! the registers that concern us (PCI Local Bus 3.0, PCI Express base specification; the behaviour
//! is that of Xen's vpci where a domain can tell).
//!
//! Watched: memory decoding and BARs, because device memory is mapped while it is decoded; MSI and
//! MSI-X, because devices must raise host vectors only. All other registers are the hardware's.
//! Hidden: SR-IOV, resizable BARs and enhanced allocation, whose BARs would escape us.
//!
//! Invariants: no message that the domain chose reaches a device; MSI-X table pages of a function
//! that decodes memory are never in the domain's map; a vector is allocated only while its function
//! has MSI or MSI-X enabled.
//!
//! Locking: the caller serialises all calls.

mod address;
mod bars;
mod caps;
mod claims;
mod device;
mod host;
mod map;
mod msi;
mod msix;
mod pages;
mod regs;
mod scan;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use oxen_types::EcamRegion;

pub use host::{Host, HostMsi, MsiHandle, MsiHost, PciHost, Sbdf};
pub use scan::scan;

use address::{Target, from_cf8, from_ecam, is_access};
use device::Device;
use map::View;
use pages::Pages;
use regs::CONFIG_SIZE;

pub const PORT_ADDRESS: u16 = 0xcf8;
pub const PORT_DATA: u16 = 0xcfc;
pub const PORT_DATA_LAST: u16 = 0xcff;

/// Far more than any machine has.
const MAX_DEVICES: usize = 4096;

/// The limits of a domain's access to a function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restriction {
    /// The domain sees the function and cannot change it. The BARs are not mapped.
    ReadOnly,
    /// The domain does not see the function.
    Hidden,
}

#[derive(Debug, Default)]
pub struct Vpci {
    cf8: u32,
    regions: Vec<EcamRegion>,
    restricted: Vec<(Sbdf, Restriction)>,
    /// Sorted by address.
    devices: Vec<Device>,
    /// Device memory that we put into the domain's map.
    mapped: Vec<Pages>,
}

impl Vpci {
    pub fn new(regions: &[EcamRegion]) -> Self {
        Self {
            regions: regions.to_vec(),
            ..Self::default()
        }
    }

    /// Before the function is added.
    pub fn restrict(&mut self, sbdf: Sbdf, restriction: Restriction) {
        self.restricted.retain(|(other, _)| *other != sbdf);
        self.restricted.push((sbdf, restriction));
    }

    /// Adds a function that is present; again is no error. Functions that nobody added are added
    /// when the domain first touches them.
    pub fn add(&mut self, sbdf: Sbdf, host: &mut impl Host) {
        if let Err(at) = self.find(sbdf)
            && self.restriction(sbdf).is_none()
            && self.devices.len() < MAX_DEVICES
        {
            let (left, right) = self.devices.split_at(at);
            let mut view = View {
                left,
                right,
                regions: &self.regions,
                mapped: &mut self.mapped,
            };
            let device = Device::adopt(sbdf, &mut view, host);
            self.devices.insert(at, device);
        }
    }

    /// Forgets a function that goes away; its mappings and vectors are given back.
    pub fn remove(&mut self, sbdf: Sbdf, host: &mut impl Host) {
        if let Ok(at) = self.find(sbdf) {
            let mut device = self.devices.remove(at);
            let mut view = View {
                left: &self.devices,
                right: &[],
                regions: &self.regions,
                mapped: &mut self.mapped,
            };
            device.release(&mut view, host);
        }
    }

    /// `None`: not ours. Of the address register only 32-bit accesses are; 0xcf9 is the reset port.
    pub fn port_read(&mut self, port: u16, size: u8, host: &mut impl Host) -> Option<u32> {
        match port {
            PORT_ADDRESS if size == 4 => Some(self.cf8),
            PORT_DATA..=PORT_DATA_LAST => Some(match from_cf8(self.cf8, port - PORT_DATA) {
                Some(target) => self.config_read(target, size, host),
                None => u32::MAX,
            }),
            _ => None,
        }
    }

    /// Returns whether the port was ours.
    pub fn port_write(&mut self, port: u16, size: u8, value: u32, host: &mut impl Host) -> bool {
        match port {
            PORT_ADDRESS if size == 4 => self.cf8 = value,
            PORT_DATA..=PORT_DATA_LAST => {
                if let Some(target) = from_cf8(self.cf8, port - PORT_DATA) {
                    self.config_write(target, size, value, host);
                }
            }
            _ => return false,
        }
        true
    }

    /// Must accesses of `gpa` come here? Such pages are never mapped.
    pub fn claims(&self, gpa: u64) -> bool {
        self.regions
            .iter()
            .any(|region| from_ecam(region, gpa).is_some())
            || self.devices.iter().any(|device| device.traps(gpa))
    }

    /// `None`: not ours.
    pub fn mmio_read(&mut self, gpa: u64, size: u8, host: &mut impl Host) -> Option<u64> {
        if let Some(target) = self.region_target(gpa) {
            if size != 8 {
                return Some(u64::from(self.config_read(target, size, host)));
            }
            let Some((low, high)) = halves(target) else {
                return Some(u64::MAX);
            };
            let value = u64::from(self.config_read(low, 4, host));
            return Some(value | u64::from(self.config_read(high, 4, host)) << 32);
        }
        let device = self.devices.get(self.trapping(gpa, size)?)?;
        Some(device.mmio_read(gpa, size, host))
    }

    /// Returns whether the address was ours.
    pub fn mmio_write(&mut self, gpa: u64, size: u8, value: u64, host: &mut impl Host) -> bool {
        if let Some(target) = self.region_target(gpa) {
            if size != 8 {
                self.config_write(target, size, value as u32, host);
            } else if let Some((low, high)) = halves(target) {
                self.config_write(low, 4, value as u32, host);
                self.config_write(high, 4, (value >> 32) as u32, host);
            }
            return true;
        }
        let at = self.trapping(gpa, size);
        match at.and_then(|at| self.devices.get_mut(at)) {
            Some(device) => {
                device.mmio_write(gpa, size, value, host);
                true
            }
            None => false,
        }
    }

    fn config_read(&mut self, target: Target, size: u8, host: &mut impl Host) -> u32 {
        let absent = claims::low_bytes(size);
        let Target { sbdf, reg } = target;
        if !is_access(reg, size) {
            return absent;
        }
        match self.restriction(sbdf) {
            Some(Restriction::Hidden) => return absent,
            Some(Restriction::ReadOnly) => return host.config_read(sbdf, reg, size),
            None => {}
        }
        self.discover(sbdf, host);
        match self.find(sbdf).ok().and_then(|at| self.devices.get(at)) {
            Some(device) => device.read(reg, size, host),
            None => absent,
        }
    }

    fn config_write(&mut self, target: Target, size: u8, value: u32, host: &mut impl Host) {
        let Target { sbdf, reg } = target;
        if !is_access(reg, size) || self.restriction(sbdf).is_some() {
            return;
        }
        self.discover(sbdf, host);
        let Ok(at) = self.find(sbdf) else {
            return;
        };
        let (left, rest) = self.devices.split_at_mut(at);
        if let Some((device, right)) = rest.split_first_mut() {
            let mut view = View {
                left,
                right,
                regions: &self.regions,
                mapped: &mut self.mapped,
            };
            device.write(reg, size, value, &mut view, host);
        }
    }

    /// Adds a function at its first touch: hot-plugged, or on a bus that the domain just numbered.
    fn discover(&mut self, sbdf: Sbdf, host: &mut impl Host) {
        if self.find(sbdf).is_err() && scan::is_present(sbdf, host) {
            self.add(sbdf, host);
        }
    }

    /// The device for an access of a trapped page. Two may share a page: then it is the one whose
    /// table is hit, or any if none is.
    fn trapping(&self, gpa: u64, size: u8) -> Option<usize> {
        let any = self.devices.iter().position(|device| device.traps(gpa))?;
        let hit = self
            .devices
            .iter()
            .position(|device| device.table_overlaps(gpa, size));
        Some(hit.unwrap_or(any))
    }

    fn region_target(&self, gpa: u64) -> Option<Target> {
        self.regions
            .iter()
            .find_map(|region| from_ecam(region, gpa))
    }

    fn restriction(&self, sbdf: Sbdf) -> Option<Restriction> {
        self.restricted
            .iter()
            .find_map(|(other, restriction)| (*other == sbdf).then_some(*restriction))
    }

    fn find(&self, sbdf: Sbdf) -> Result<usize, usize> {
        self.devices
            .binary_search_by_key(&sbdf, |device| device.sbdf)
    }
}

/// An aligned 8-byte access is two of 4.
fn halves(target: Target) -> Option<(Target, Target)> {
    let high = target.reg.checked_add(4).filter(|reg| *reg < CONFIG_SIZE)?;
    let aligned = target.reg.is_multiple_of(8);
    aligned.then_some((
        target,
        Target {
            reg: high,
            ..target
        },
    ))
}
