//! Virtual disks, served by dom0's xen-blkback (xen/io/blkif.h).
//!
//! The driver wants a block device by its number (`physical-device`). A block device is given as it
//! is; a raw file becomes one by a loop device that clears itself when the driver closes it; other
//! formats become one by qemu-nbd, a process that has to be ended ([`nbd`]).

mod content;
mod image;
mod nbd;
mod sharing;

use crate::device::Device;
use crate::guest::Guest;
use crate::held::{self, Held};
use crate::kind::Kind;
use crate::nodes::Nodes;
use image::{Identity, Image};
pub use oxen_config::spec::vdev;
use oxen_config::{DiskAccess, DiskFormat, DiskSpec, DomainConfig};
use oxen_domain::world::Store;
use oxen_domain::{Error, Result};
use oxen_sys::loopdev::LoopDevice;
use std::path::{Path, PathBuf};

/// The largest number of disks of a guest.
const MAX: usize = 16;

/// Checks that a guest can have `more` further disks.
///
/// # Errors
/// `Error` with the limit if the guest would have more than [`MAX`] disks.
pub fn check_room(config: &DomainConfig, more: usize) -> Result<()> {
    if config.disks.len() + more <= MAX {
        return Ok(());
    }
    let what = format!("cannot give {} so many disks", config.name);
    Err(Error::new(
        what,
        format!("{MAX} are the most that a guest can have"),
    ))
}

/// A disk to be attached.
pub struct Disk {
    spec: DiskSpec,
    id: u32,
    /// The block device, held until the driver holds it.
    source: Option<Source>,
}

/// The block device behind a disk.
#[derive(Debug)]
enum Source {
    /// A block device of dom0, open.
    Device(Image),
    Loop(LoopDevice),
    Nbd(nbd::Server),
}

impl Disk {
    /// # Errors
    /// `Error` with the cause if the device name has no number, or the description asks for
    /// something that is not supported.
    pub fn new(spec: &DiskSpec) -> Result<Self> {
        let fail = |cause: String| {
            Err(Error::new(
                format!("cannot attach disk {}", spec.vdev),
                cause,
            ))
        };
        let Some(id) = vdev::number(&spec.vdev) else {
            return fail("that name has no number in the ABI".to_owned());
        };
        if let Some(backend) = spec.backend.as_ref().filter(|name| !is_dom0(name)) {
            return fail(format!("backend={backend}: only dom0 can serve disks yet"));
        }
        if let Some(cause) = spec.refusal() {
            return fail(cause);
        }
        Ok(Self {
            spec: spec.clone(),
            id,
            source: None,
        })
    }

    fn source(
        &self,
        guest: &Guest<'_>,
        store: &mut dyn Store,
        warnings: &mut Vec<String>,
    ) -> Result<Source> {
        // Another guest that uses the image is named here, before the lock is tried. A missing file
        // is reported by the opening.
        if let Ok(identity) = Identity::of(self.spec.target.as_ref()) {
            let others = held::everywhere(store, Kind::Vbd)?;
            sharing::check(&self.spec, identity, &others, store)?;
        }
        let image = Image::open(&self.spec, warnings)?;
        if image.is_block() && self.spec.format == DiskFormat::Raw {
            return Ok(Source::Device(image));
        }
        if self.spec.format == DiskFormat::Raw {
            let label = format!("xen:{}:{}", guest.uuid, self.spec.vdev);
            let read_only = self.spec.access == DiskAccess::Ro;
            let made = LoopDevice::new(image.file(), read_only, &label);
            return made.map(Source::Loop).map_err(|errno| {
                Error::new(
                    format!("cannot make a loop device of {}", self.spec.target),
                    errno,
                )
                .remedy("modprobe loop; losetup -a shows what is in use")
            });
        }
        // qemu has its own locks on the image.
        drop(image);
        nbd::Server::start(&self.spec).map(Source::Nbd)
    }
}

fn is_dom0(name: &str) -> bool {
    matches!(name, "0" | "Domain-0")
}

impl Device for Disk {
    fn kind(&self) -> Kind {
        Kind::Vbd
    }

    fn id(&self) -> u32 {
        self.id
    }

    fn claim(&mut self, guest: &Guest<'_>, store: &mut dyn Store) -> Result<Nodes> {
        let spec = &self.spec;
        let flag = |set: bool| if set { "1" } else { "0" }.to_owned();
        let mut back = vec![
            ("dev", spec.vdev.clone()),
            ("type", "phy".to_owned()),
            ("mode", sharing::mode(spec).to_owned()),
            ("params", spec.target.clone()),
            ("format", spec.format.word().to_owned()),
            ("removable", flag(spec.cdrom)),
            ("cdrom", flag(spec.cdrom)),
            ("bootable", "1".to_owned()),
            ("discard-enable", flag(self.spec.discard.unwrap_or(true))),
        ];
        let mut warnings = Vec::new();
        let source = self.source(guest, store, &mut warnings)?;
        back.extend(source.nodes()?);
        self.source = Some(source);
        // Linux drives no paravirtual CD drive in a PVH guest: blkfront_probe leaves CD drives to
        // an emulated one. So the guest sees a removable read-only disk.
        let front = vec![
            ("virtual-device", self.id.to_string()),
            ("device-type", "disk".to_owned()),
        ];
        Ok(Nodes {
            front,
            back,
            warnings,
        })
    }

    fn plug(&mut self, _: &Guest<'_>) -> Result<Vec<(&'static str, String)>> {
        Ok(vec![("hotplug-status", "connected".to_owned())])
    }

    fn is_plugged(&mut self, guest: &Guest<'_>) -> bool {
        let sysfs = held::sysfs(guest.domain, Kind::Vbd, self.id);
        let plugged = has_opened(&sysfs);
        if let (true, Some(Source::Nbd(server))) = (plugged, &mut self.source) {
            server.keep();
        }
        plugged
    }
}

impl Source {
    /// The nodes that name the block device: for the driver, and for its later release.
    fn nodes(&self) -> Result<Vec<(&'static str, String)>> {
        let path: PathBuf = match self {
            Self::Device(image) => image.path().to_owned(),
            Self::Loop(device) => device.path(),
            Self::Nbd(server) => server.device(),
        };
        let stat = rustix::fs::stat(&path)
            .map_err(|errno| Error::new(format!("cannot use {}", path.display()), errno))?;
        let (major, minor) = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
        Ok(vec![
            ("physical-device-path", path.display().to_string()),
            ("physical-device", format!("{major:x}:{minor:x}")),
        ])
    }
}

/// Whether the driver has opened the device: it creates these files then.
fn has_opened(sysfs: &Path) -> bool {
    sysfs.join("statistics").exists()
}

pub(crate) fn is_plugged(held: &Held) -> bool {
    has_opened(&held.sysfs())
}

/// Ends the qemu-nbd of a disk, if it has one. A loop device clears itself, and a block device
/// needs nothing.
pub(crate) fn release(held: &Held) -> Result<()> {
    nbd::release(held.node("physical-device-path"))
}

/// Ends each qemu-nbd that was started for a disk that never came to be.
pub(crate) fn sweep(all: &[Held]) -> Result<()> {
    let used: Vec<&str> = all
        .iter()
        .map(|held| held.node("physical-device-path"))
        .collect();
    nbd::sweep(&used)
}

/// The reason not to take a disk away: a file system on it is mounted. Its content is examined,
/// because a guest's kernel lets a disk go even while it is mounted.
pub(crate) fn busy(held: &Held) -> Option<String> {
    if held.node("mode").starts_with('r') {
        return None;
    }
    content::mounted(held.node("physical-device-path").as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_disks_and_no_more() {
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
        check_room(&config(16), 0).expect("sixteen");
        check_room(&config(15), 1).expect("one more");
        for (there, more) in [(17, 0), (16, 1)] {
            let error = check_room(&config(there), more).expect_err("seventeen");
            assert!(error.to_string().contains("16 are the most"), "{error}");
        }
    }
}
