//! Kernels from guests' own disks. The content of a disk is the guest's, so a separate process
//! without any rights, `xmgrub`, reads the disk and unpacks the kernel. Kernel and ramdisk come
//! through a pipe straight into the memory from which the guest is built; no file is written.
//!
//! The cost of a hostile disk is bounded: a few such processes at once, each for a limited time; no
//! more bytes than the guest has memory; and none that would bring this domain's own memory below a
//! reserve.

mod child;
mod gate;

use self::child::Child;
use crate::build::Images;
use crate::{Error, Result, image};
use oxen_config::{DiskFormat, DiskSpec, DomainConfig};
use serde::Deserialize;
use std::io::{BufRead, BufReader, Read};
use std::process::Command;
use std::sync::Arc;

const PROGRAM: &str = "xmgrub";
/// The directory in which earlier versions put copies.
const COPIES: &str = "/run/xen/boot";
/// The largest kernel, unpacked, and the largest ramdisk.
const MAX_IMAGE: u64 = 256 << 20;
/// The longest line before the images, in bytes.
const MAX_LINE: u64 = 1 << 20;

/// A guest's configuration with the command line from its disk, and what it boots.
pub struct Booted {
    pub config: DomainConfig,
    pub images: Images,
}

/// The line that xmgrub prints before the images.
#[derive(Deserialize)]
struct Found {
    entry: String,
    kernel: String,
    cmdline: String,
    stream: Streamed,
}

/// The lengths of the images that follow, in bytes.
#[derive(Deserialize)]
struct Streamed {
    kernel: u64,
    ramdisk: u64,
}

/// Removes the files that an earlier version left when it was killed.
pub fn clean() {
    let _ = std::fs::remove_dir_all(COPIES);
}

/// Takes kernel and ramdisk from the guest's first disk, if that is what its configuration wants.
/// The choice goes to `log`. While the disk is read, `wanted` says whether the guest is still
/// wanted.
///
/// # Errors
/// `Error` if the disk has nothing to boot, if kernel and ramdisk are too large, or if the guest is
/// no longer wanted.
pub fn load(
    config: &DomainConfig,
    log: &mut dyn FnMut(&str),
    wanted: &dyn Fn() -> bool,
) -> Result<Option<Booted>> {
    let Some(loader) = &config.bootloader else {
        return Ok(None);
    };
    let what = format!("cannot create {}: its boot loader", config.name);
    let disk = disk(config).map_err(|cause| Error::new(&what, cause))?;
    let _place =
        gate::enter(wanted).ok_or_else(|| Error::new(&what, "nobody wants the guest any more"))?;
    let mut xmgrub = Command::new(PROGRAM);
    xmgrub.arg(format!("--stream={}", config.memory_mib));
    if let Some(entry) = &loader.entry {
        xmgrub.arg(format!("--entry={entry}"));
    }
    if !config.cmdline.is_empty() {
        xmgrub.arg(format!("--args={}", config.cmdline));
    }
    xmgrub.arg("--").arg(&disk.target);
    let mut child = Child::start(&mut xmgrub, wanted).map_err(|error| {
        Error::new(&what, format!("{PROGRAM} cannot be started: {error}"))
            .remedy(format!("install {PROGRAM} where xmd finds it (PATH)"))
    })?;
    let received = receive(&mut child, u64::from(config.memory_mib) << 20);
    let done = match received {
        Ok(received) => child.end().map(|()| received),
        Err(Fault::Refused(why)) => Err(why),
        // The program's own message says more than that its reply ends.
        Err(Fault::Broken(why)) => Err(child.complain().unwrap_or(why)),
    };
    let (found, images) = done.map_err(|why| {
        let remedy = "xmgrub --list DISK shows what can be booted; or use kernel=";
        Error::new(what, why).remedy(remedy)
    })?;
    log(&format!(
        "boots {:?}, kernel {:?}",
        shortened(&found.entry),
        shortened(&found.kernel)
    ));
    let config = DomainConfig {
        cmdline: found.cmdline,
        ..config.clone()
    };
    Ok(Some(Booted { config, images }))
}

/// The reason why a reply was of no use.
#[derive(Debug)]
enum Fault {
    /// The reply ends early or cannot be read.
    Broken(String),
    /// The images are too large.
    Refused(String),
}

fn broken(error: impl core::fmt::Display) -> Fault {
    Fault::Broken(format!("{PROGRAM}'s answer: {error}"))
}

/// Reads the line and the images behind it. Nothing in the reply is trusted: its sender has read
/// the disk.
fn receive(from: &mut dyn Read, memory: u64) -> core::result::Result<(Found, Images), Fault> {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    (&mut from)
        .take(MAX_LINE)
        .read_until(b'\n', &mut line)
        .map_err(broken)?;
    let found: Found = serde_json::from_slice(&line).map_err(broken)?;
    let Streamed { kernel, ramdisk } = found.stream;
    if kernel.max(ramdisk) > MAX_IMAGE || kernel.saturating_add(ramdisk) > memory {
        let text = "kernel and ramdisk are larger than the guest's memory";
        return Err(Fault::Refused(text.to_owned()));
    }
    let _reserved = gate::reserve(kernel + ramdisk).map_err(Fault::Refused)?;
    let kernel = bytes(&mut from, kernel)?;
    let kernel = image::from_elf(kernel).map_err(|error| Fault::Refused(error.to_string()))?;
    let ramdisk = bytes(&mut from, ramdisk)?;
    let images = Images {
        kernel: Arc::new(kernel),
        ramdisk,
    };
    Ok((found, images))
}

fn bytes(from: &mut dyn Read, count: u64) -> core::result::Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let length = usize::try_from(count).map_err(broken)?;
    bytes.try_reserve_exact(length).map_err(|_| {
        let text = "there is not enough memory for kernel and ramdisk in this domain";
        Fault::Refused(text.to_owned())
    })?;
    from.take(count).read_to_end(&mut bytes).map_err(broken)?;
    if bytes.len() == length {
        Ok(bytes)
    } else {
        Err(broken("it ends early"))
    }
}

/// A guest's text, shortened to fit a line of the log.
fn shortened(text: &str) -> String {
    const MOST: usize = 120;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The disk that is booted from.
fn disk(config: &DomainConfig) -> core::result::Result<&DiskSpec, String> {
    let disk = config.disks.iter().find(|disk| !disk.cdrom);
    let disk = disk.ok_or("the guest has no disk")?;
    if disk.format != DiskFormat::Raw {
        return Err(format!(
            "{} has the format {}, and only raw images and block devices can be booted from",
            disk.target,
            disk.format.word()
        ));
    }
    Ok(disk)
}

#[cfg(test)]
mod tests;
