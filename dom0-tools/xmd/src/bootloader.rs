//! Kernels out of guests' own disks: `xmgrub` finds them, in a process of its own without any right, as
//! what it reads is the guest's. What it copied lies in a directory here until it has been read.

use oxen_config::{DiskFormat, DiskSpec, DomainConfig};
use oxen_domain::{Error, Result};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PROGRAM: &str = "xmgrub";
/// A directory in it for each guest that is just being built.
const HERE: &str = "/run/xen/boot";

/// A guest's configuration with kernel, ramdisk and command line from its disk.
pub struct Booted {
    pub config: DomainConfig,
    _files: Files,
}

/// A directory that goes away with its owner.
struct Files(PathBuf);

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What xmgrub prints.
#[derive(Deserialize)]
struct Found {
    entry: String,
    kernel: String,
    cmdline: String,
}

/// Removes what a killed process left.
pub fn clean() {
    let _ = std::fs::remove_dir_all(HERE);
}

/// Takes kernel and ramdisk from the guest's first disk, if that is what its configuration wants; `name`
/// is that of a directory of this guest's alone. `log` is told what was chosen.
///
/// # Errors
/// There is nothing to boot on it.
pub fn load(
    config: &DomainConfig,
    name: &str,
    log: &mut dyn FnMut(&str),
) -> Result<Option<Booted>> {
    let Some(wish) = &config.bootloader else {
        return Ok(None);
    };
    let what = format!("cannot create {}: its boot loader", config.name);
    let disk = disk(config).map_err(|cause| Error::new(&what, cause))?;
    let files = Files(Path::new(HERE).join(name));
    let _ = std::fs::remove_dir_all(&files.0);
    std::fs::create_dir_all(&files.0)
        .map_err(|error| Error::new(&what, format!("{}: {error}", files.0.display())))?;
    let mut xmgrub = Command::new(PROGRAM);
    xmgrub.arg("--json").arg("--output-directory").arg(&files.0);
    if let Some(entry) = &wish.entry {
        xmgrub.arg(format!("--entry={entry}"));
    }
    if !config.cmdline.is_empty() {
        xmgrub.arg(format!("--args={}", config.cmdline));
    }
    let output = xmgrub
        .arg("--")
        .arg(&disk.target)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            Error::new(&what, format!("{PROGRAM} cannot be started: {error}"))
                .remedy(format!("install {PROGRAM} where xmd finds it (PATH)"))
        })?;
    if !output.status.success() {
        return Err(explain(&what, &output.stderr));
    }
    let found: Found = serde_json::from_slice(&output.stdout)
        .map_err(|error| Error::new(&what, format!("{PROGRAM}'s answer: {error}")))?;
    log(&format!(
        "boots {:?}, kernel {:?}",
        found.entry, found.kernel
    ));
    let path = |name: &str| files.0.join(name).to_string_lossy().into_owned();
    let ramdisk = std::fs::metadata(files.0.join("ramdisk"));
    let config = DomainConfig {
        kernel: path("kernel"),
        ramdisk: ramdisk
            .is_ok_and(|meta| meta.len() > 0)
            .then(|| path("ramdisk")),
        cmdline: found.cmdline,
        ..config.clone()
    };
    Ok(Some(Booted {
        config,
        _files: files,
    }))
}

fn explain(what: &str, stderr: &[u8]) -> Error {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().next_back().unwrap_or_default();
    let line = line.strip_prefix("xmgrub: ").unwrap_or(line);
    let cause = if line.is_empty() {
        format!("{PROGRAM} was killed")
    } else {
        line.to_owned()
    };
    Error::new(what, cause).remedy("xmgrub --list DISK shows what can be booted; or use kernel=")
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
mod tests {
    use super::*;

    fn config(more: &str) -> DomainConfig {
        let text = format!("type='pvh'\nname='demo'\nmemory=32\nbootloader='pygrub'\n{more}");
        oxen_config::parse("test", text.as_bytes(), &[])
            .expect("a good file")
            .config
    }

    #[test]
    fn the_first_disk_that_is_no_cd_is_booted_from() {
        let found =
            config("disk=['/cd.iso,,xvdb,cdrom', '/a.img,raw,xvda,w', '/b.img,raw,xvdc,w']");
        assert_eq!(disk(&found).map(|disk| disk.target.as_str()), Ok("/a.img"));
        let other = config("disk=['/a.img,qcow2,xvda,w']");
        assert!(disk(&other).expect_err("not raw").contains("qcow2"));
        let none = config("disk=['/cd.iso,,xvdb,cdrom']");
        assert!(disk(&none).is_err());
    }

    #[test]
    fn the_last_line_tells_why() {
        let error = explain("cannot", b"noise\nxmgrub: /a.img: no menu\n").to_string();
        assert!(error.starts_with("cannot: /a.img: no menu; "), "{error}");
        assert!(explain("cannot", b"").to_string().contains("was killed"));
    }
}
