//! Disk specifications, as in xl-disk-configuration(5): `target,format,vdev,access` by position,
//! then or instead `key=value`; and the older `phy:/dev/sdb,xvda,w`.

use super::{pair, vdev};
use serde::{Deserialize, Serialize};

/// One virtual disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiskSpec {
    /// The block device or image file; empty for an empty CD drive.
    pub target: String,
    pub format: DiskFormat,
    /// The name in the guest: `xvda`, `xvdb3`, ...
    pub vdev: String,
    pub access: DiskAccess,
    /// Written by several guests at once, as the administrator demanded (`w!`).
    pub shared: bool,
    pub cdrom: bool,
    /// The domain that serves the disk; domain 0 if absent.
    pub backend: Option<String>,
    /// `phy`, `tap` or `qdisk`, where one is given.
    pub backendtype: Option<String>,
    pub script: Option<String>,
    pub direct_io_safe: bool,
    /// Whether the guest may discard blocks; by default where the backend can.
    pub discard: Option<bool>,
}

impl DiskSpec {
    /// The reason why the disk cannot be served, if it names a script.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let script = self.script.as_ref()?;
        let hint = match script.as_str() {
            "block-drbd" => format!(": phy:/dev/drbd/by-res/{}/0", self.target),
            _ => String::new(),
        };
        Some(format!(
            "script={script}: scripts are not run, name the block device itself{hint}"
        ))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    #[default]
    Raw,
    Qcow,
    Qcow2,
    Vhd,
    Vmdk,
    Qed,
}

impl DiskFormat {
    /// The word in a configuration file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow => "qcow",
            Self::Qcow2 => "qcow2",
            Self::Vhd => "vhd",
            Self::Vmdk => "vmdk",
            Self::Qed => "qed",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskAccess {
    Ro,
    #[default]
    Rw,
}

/// Parses one specification.
///
/// # Errors
/// A `String` that names the part that is wrong.
pub fn parse(text: &str) -> Result<DiskSpec, String> {
    let mut disk = DiskSpec::default();
    let mut rest = text;
    if let Some((after, in_dev)) = legacy_prefix(&mut disk, text)? {
        // The old form has target, vdev and access by position.
        let mut words = after.splitn(3, ',').map(str::trim);
        let target = words.next().unwrap_or_default();
        disk.target = match in_dev && !target.is_empty() && !target.starts_with('/') {
            true => format!("/dev/{target}"),
            false => target.to_owned(),
        };
        words.next().unwrap_or_default().clone_into(&mut disk.vdev);
        if let Some(access) = words.next() {
            parse_access(&mut disk, access)?;
        }
        return finish(disk, text);
    }
    let mut position = 0;
    while !rest.is_empty() {
        // A target given by key takes the rest of the text: paths may hold commas.
        if let Some(target) = rest.trim_start().strip_prefix("target=") {
            target.clone_into(&mut disk.target);
            break;
        }
        let (word, after) = rest.split_once(',').unwrap_or((rest, ""));
        rest = after;
        let word = word.trim();
        if !keyword(&mut disk, word)? {
            // A format may be left out, as xm's commands do: FILE xvda w; and xm's examples:
            // ,hdc:cdrom,r.
            if position == 1 && named(word).is_ok_and(|(vdev, _)| vdev::usual(vdev).is_some()) {
                position = 2;
            }
            positional(&mut disk, position, word)?;
            position += 1;
        }
    }
    finish(disk, text)
}

fn finish(mut disk: DiskSpec, text: &str) -> Result<DiskSpec, String> {
    if disk.vdev.is_empty() {
        return Err(format!(
            "{text:?} does not say which device the guest gets (vdev=xvda)"
        ));
    }
    let (word, cdrom) = named(&disk.vdev)?;
    let Some(vdev) = vdev::usual(word) else {
        return Err(format!(
            "{word:?} is not the name of a device in the guest (xvda, xvdb1, ...)"
        ));
    };
    disk.vdev = vdev;
    disk.cdrom |= cdrom;
    if disk.cdrom {
        disk.access = DiskAccess::Ro;
    } else if disk.target.is_empty() {
        return Err(format!(
            "{text:?} has no target: only a CD drive may be empty"
        ));
    }
    Ok(disk)
}

/// Old files name the emulation and the kind of drive with the device: `ioemu:hdc:cdrom`. True for
/// a CD drive.
fn named(word: &str) -> Result<(&str, bool), String> {
    let vdev = word.strip_prefix("ioemu:").unwrap_or(word);
    let (vdev, kind) = vdev.split_once(':').unwrap_or((vdev, "disk"));
    match kind {
        "disk" => Ok((vdev, false)),
        "cdrom" => Ok((vdev, true)),
        _ => Err(format!("{kind:?} is neither disk nor cdrom")),
    }
}

fn keyword(disk: &mut DiskSpec, word: &str) -> Result<bool, String> {
    match pair(word) {
        ("format", Some(value)) => parse_format(disk, value)?,
        ("vdev", Some(value)) => value.clone_into(&mut disk.vdev),
        ("access", Some(value)) => parse_access(disk, value)?,
        ("devtype", Some("cdrom")) | ("cdrom", None) => disk.cdrom = true,
        ("devtype", Some("disk")) => disk.cdrom = false,
        ("devtype", Some(value)) => {
            return Err(format!("devtype={value} is neither disk nor cdrom"));
        }
        ("backend", Some(value)) => disk.backend = Some(value.to_owned()),
        ("backendtype", Some(value @ ("phy" | "tap" | "qdisk" | "standalone"))) => {
            disk.backendtype = Some(value.to_owned());
        }
        ("backendtype", Some(value)) => {
            return Err(format!("backendtype={value} is none of phy, tap, qdisk"));
        }
        ("script", Some(value)) => disk.script = Some(value.to_owned()),
        ("direct-io-safe", None) => disk.direct_io_safe = true,
        ("discard", None) => disk.discard = Some(true),
        ("no-discard", None) => disk.discard = Some(false),
        (key, Some(_)) if !key.contains('/') => return Err(format!("unknown disk option {key:?}")),
        _ => return Ok(false),
    }
    Ok(true)
}

fn positional(disk: &mut DiskSpec, position: u32, word: &str) -> Result<(), String> {
    match position {
        0 => word.clone_into(&mut disk.target),
        1 if word.is_empty() => {}
        1 => parse_format(disk, word)?,
        2 => word.clone_into(&mut disk.vdev),
        3 if word.is_empty() => {}
        3 => parse_access(disk, word)?,
        _ => {
            return Err(format!(
                "{word:?} is one word too many (target, format, vdev, access)"
            ));
        }
    }
    Ok(())
}

/// Strips `phy:`, `file:`, `tap:aio:`, `drbd:` and their like; None if there is none of them. True
/// if a relative target is one in /dev.
fn legacy_prefix<'a>(
    disk: &mut DiskSpec,
    text: &'a str,
) -> Result<Option<(&'a str, bool)>, String> {
    let mut rest = text;
    let mut in_dev = false;
    while let Some((prefix, after)) = prefix(rest) {
        match prefix {
            "phy" => in_dev = true,
            "file" | "tap" | "tap2" | "tapdisk" | "ioemu" => {}
            "aio" | "raw" => disk.format = DiskFormat::Raw,
            "qcow" => disk.format = DiskFormat::Qcow,
            "qcow2" => disk.format = DiskFormat::Qcow2,
            "vhd" => disk.format = DiskFormat::Vhd,
            "vmdk" => disk.format = DiskFormat::Vmdk,
            "qed" => disk.format = DiskFormat::Qed,
            // Only a script understands these targets.
            "drbd" | "iscsi" | "nbd" | "enbd" => disk.script = Some(format!("block-{prefix}")),
            _ => {
                return Err(format!(
                    "{prefix:?}: is no known prefix of a disk; a path with a colon is written target=PATH"
                ));
            }
        }
        rest = after;
        if disk.script.is_some() {
            break;
        }
    }
    Ok((rest.len() < text.len()).then_some((rest, in_dev)))
}

/// A word before a colon where a path begins.
fn prefix(text: &str) -> Option<(&str, &str)> {
    let (word, after) = text.split_once(':')?;
    let plain = word.starts_with(|c: char| c.is_ascii_lowercase())
        && word
            .bytes()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    plain.then_some((word, after))
}

fn parse_format(disk: &mut DiskSpec, word: &str) -> Result<(), String> {
    disk.format = match word {
        "raw" | "aio" => DiskFormat::Raw,
        "qcow" => DiskFormat::Qcow,
        "qcow2" => DiskFormat::Qcow2,
        "vhd" => DiskFormat::Vhd,
        "vmdk" => DiskFormat::Vmdk,
        "qed" => DiskFormat::Qed,
        // xl's word for a drive without a disc.
        "empty" => {
            disk.cdrom = true;
            DiskFormat::Raw
        }
        _ => {
            return Err(format!(
                "{word:?} is no disk format (raw, qcow, qcow2, vhd, vmdk, qed)"
            ));
        }
    };
    Ok(())
}

fn parse_access(disk: &mut DiskSpec, word: &str) -> Result<(), String> {
    (disk.access, disk.shared) = match word {
        "r" | "ro" => (DiskAccess::Ro, false),
        "w" | "rw" => (DiskAccess::Rw, false),
        "w!" | "rw!" => (DiskAccess::Rw, true),
        _ => {
            return Err(format!(
                "{word:?} is neither ro nor rw (nor w! for a disk that several guests write)"
            ));
        }
    };
    Ok(())
}

#[cfg(test)]
mod tests;
