//! dom0: drivers of the machines we run on, the Xen drivers, our programs, and what example guests
//! boot.
//!
//! Not compressed: under emulation unpacking costs more than the bytes do.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use oxen_harness::images;

use super::{base, script};
use crate::debian::Kernel;

const XEN: [&str; 9] = [
    "xen-privcmd",
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
    "xenfs",
    "xen-blkback",
    "xen-netback",
    "loop",
    "nbd",
];
/// Modules that the toolstack itself needs.
const CONTROL: [&str; 5] = [
    "xen-privcmd",
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
    "xenfs",
];
const NETWORK: [&str; 6] = ["bridge", "8021q", "tun", "virtio_net", "e1000e", "veth"];
/// Modules that the NAT network's rules need; the kernel loads them itself.
const FILTER: [&str; 4] = ["nf_tables", "nft_chain_nat", "nft_masq", "nft_ct"];
const STORAGE: [&str; 8] = [
    "virtio_blk",
    "virtio_scsi",
    "virtio_pci",
    "ahci",
    "sd_mod",
    "sr_mod",
    "nvme",
    "ext4",
];
/// Further names of the store's program, behind `xenstore-`: scripts know these names.
const STORE_NAMES: [&str; 9] = [
    "chmod", "control", "exists", "list", "ls", "read", "rm", "watch", "write",
];
const OTHER: [&str; 4] = ["crc32c_generic", "crc32c-intel", "vfat", "i6300esb"];

/// The kernels that guests boot.
pub(super) struct GuestKernels<'a> {
    /// The stock kernel and its ramdisk; without them dom0 is the small one, which has no drivers
    /// either.
    pub(super) linux: Option<(&'a [u8], &'a [u8])>,
    /// Ours, of tests/guests.
    pub(super) test: &'a [u8],
}

pub(super) fn archive(
    kernel: &Kernel,
    busybox: &Path,
    programs: &[PathBuf],
    guests: &GuestKernels<'_>,
) -> Result<Vec<u8>> {
    let modules = match guests.linux {
        Some(_) => [&XEN[..], &NETWORK, &FILTER, &STORAGE, &OTHER].concat(),
        None => CONTROL.to_vec(),
    };
    let mut archive = base(kernel, busybox, &modules, "dom0-init")?;
    for name in ["oxen-supervise", "oxen-log", "oxen-ready"] {
        archive.file(&format!("bin/{name}"), true, &script(name)?)?;
    }
    archive.file("etc/shrc", false, &script("shrc")?)?;
    for program in programs {
        let name = program
            .file_name()
            .context("a program without a name")?
            .to_string_lossy();
        archive.copy(&format!("bin/{name}"), program)?;
    }
    for name in STORE_NAMES {
        archive.symlink(&format!("bin/xenstore-{name}"), "xenstore")?;
    }
    archive.directory("var/lib/oxen")?;
    archive.directory("etc/xen")?;
    for example in examples()? {
        let name = example
            .file_name()
            .context("an example without a name")?
            .to_string_lossy()
            .into_owned();
        archive.copy(&format!("etc/xen/{name}"), &example)?;
    }
    if let Some((kernel, initrd)) = guests.linux {
        archive.file("boot/vmlinuz", false, kernel)?;
        archive.file("boot/guest.cpio.gz", false, initrd)?;
    }
    archive.file("boot/test-guest", false, guests.test)?;
    archive.finish()
}

/// The example configurations of guests.
fn examples() -> Result<Vec<PathBuf>> {
    let directory = images::root().join("dom0-tools/examples");
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in
        fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))?
    {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "cfg") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
