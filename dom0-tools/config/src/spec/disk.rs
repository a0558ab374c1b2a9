//! Disk specifications, as in xl-disk-configuration(5): `target,format,vdev,access` by position, then
//! or instead `key=value`; and the older `phy:/dev/sdb,xvda,w`.

use super::pair;
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
    pub cdrom: bool,
    /// The domain that serves the disk; domain 0 if absent.
    pub backend: Option<String>,
    /// `phy`, `tap` or `qdisk`, where one is asked for.
    pub backendtype: Option<String>,
    pub script: Option<String>,
    pub direct_io_safe: bool,
    /// Whether the guest may discard blocks; by default where the backend can.
    pub discard: Option<bool>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    #[default]
    Raw,
    Qcow,
    Qcow2,
    Vhd,
    Qed,
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
/// What is wrong, in words.
pub fn parse(text: &str) -> Result<DiskSpec, String> {
    let mut disk = DiskSpec::default();
    let mut rest = text;
    if let Some(after) = legacy_prefix(&mut disk, text) {
        // The old form has target, vdev and access by position.
        let mut words = after.splitn(3, ',').map(str::trim);
        disk.target = words.next().unwrap_or_default().to_owned();
        words.next().unwrap_or_default().clone_into(&mut disk.vdev);
        if let Some(access) = words.next() {
            disk.access = parse_access(access)?;
        }
        if let Some(name) = disk.vdev.strip_suffix(":cdrom").map(str::to_owned) {
            disk.vdev = name;
            disk.cdrom = true;
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
    check_vdev(&disk.vdev)?;
    if disk.cdrom {
        disk.access = DiskAccess::Ro;
    } else if disk.target.is_empty() {
        return Err(format!(
            "{text:?} has no target: only a CD drive may be empty"
        ));
    }
    Ok(disk)
}

fn keyword(disk: &mut DiskSpec, word: &str) -> Result<bool, String> {
    match pair(word) {
        ("format", Some(value)) => disk.format = parse_format(value)?,
        ("vdev", Some(value)) => value.clone_into(&mut disk.vdev),
        ("access", Some(value)) => disk.access = parse_access(value)?,
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
        1 => disk.format = parse_format(word)?,
        2 => word.clone_into(&mut disk.vdev),
        3 if word.is_empty() => {}
        3 => disk.access = parse_access(word)?,
        _ => {
            return Err(format!(
                "{word:?} is one word too many (target, format, vdev, access)"
            ));
        }
    }
    Ok(())
}

/// Strips `phy:`, `file:`, `tap:aio:` and their like; None if there is none of them.
fn legacy_prefix<'a>(disk: &mut DiskSpec, text: &'a str) -> Option<&'a str> {
    const PREFIXES: [(&str, DiskFormat); 11] = [
        ("phy:", DiskFormat::Raw),
        ("file:", DiskFormat::Raw),
        ("tap2:aio:", DiskFormat::Raw),
        ("tap:aio:", DiskFormat::Raw),
        ("tap2:qcow2:", DiskFormat::Qcow2),
        ("tap:qcow2:", DiskFormat::Qcow2),
        ("tap:qcow:", DiskFormat::Qcow),
        ("tap2:vhd:", DiskFormat::Vhd),
        ("tap:vhd:", DiskFormat::Vhd),
        ("aio:", DiskFormat::Raw),
        ("raw:", DiskFormat::Raw),
    ];
    let (prefix, format) = PREFIXES
        .into_iter()
        .find(|(prefix, _)| text.starts_with(prefix))?;
    disk.format = format;
    let rest = text.strip_prefix(prefix)?;
    Some(rest)
}

fn parse_format(word: &str) -> Result<DiskFormat, String> {
    Ok(match word {
        "raw" => DiskFormat::Raw,
        "qcow" => DiskFormat::Qcow,
        "qcow2" => DiskFormat::Qcow2,
        "vhd" => DiskFormat::Vhd,
        "qed" => DiskFormat::Qed,
        _ => {
            return Err(format!(
                "{word:?} is no disk format (raw, qcow, qcow2, vhd, qed)"
            ));
        }
    })
}

fn parse_access(word: &str) -> Result<DiskAccess, String> {
    Ok(match word {
        "r" | "ro" => DiskAccess::Ro,
        "w" | "rw" | "w!" => DiskAccess::Rw,
        _ => return Err(format!("{word:?} is neither ro nor rw")),
    })
}

/// A device's name: letters of a known kind, then perhaps a partition's number.
fn check_vdev(vdev: &str) -> Result<(), String> {
    let kind = ["xvd", "hd", "sd"]
        .into_iter()
        .find_map(|kind| vdev.strip_prefix(kind));
    let good = kind.is_some_and(|rest| {
        let letters = rest.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = rest.len() - letters.len();
        (1..=3).contains(&letters.len())
            && letters.bytes().all(|c| c.is_ascii_lowercase())
            && digits <= 3
    });
    if good {
        Ok(())
    } else {
        Err(format!(
            "{vdev:?} is not the name of a device in the guest (xvda, xvdb1, ...)"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn disk(target: &str, vdev: &str) -> DiskSpec {
        DiskSpec {
            target: target.into(),
            vdev: vdev.into(),
            ..DiskSpec::default()
        }
    }

    #[test]
    fn one_disk_in_each_spelling() {
        let wanted = disk("/dev/vg/guest", "xvda");
        for text in [
            "/dev/vg/guest,raw,xvda,rw",
            "/dev/vg/guest,,xvda",
            "format=raw, vdev=xvda, access=rw, target=/dev/vg/guest",
            "phy:/dev/vg/guest,xvda,w",
            "vdev=xvda,access=w,/dev/vg/guest",
        ] {
            assert_eq!(parse(text), Ok(wanted.clone()), "{text}");
        }
    }

    #[test]
    fn options() {
        let parsed = parse("/a.qcow2,qcow2,xvdb,ro,direct-io-safe,no-discard,backend=store")
            .expect("a disk");
        let wanted = DiskSpec {
            format: DiskFormat::Qcow2,
            access: DiskAccess::Ro,
            direct_io_safe: true,
            discard: Some(false),
            backend: Some("store".into()),
            ..disk("/a.qcow2", "xvdb")
        };
        assert_eq!(parsed, wanted);
        let cd = parse("vdev=hdc,devtype=cdrom,target=").expect("an empty drive");
        assert!(cd.cdrom && cd.access == DiskAccess::Ro);
        assert_eq!(
            parse("vdev=xvda,target=/a,b=c").map(|d| d.target),
            Ok("/a,b=c".into())
        );
        assert_eq!(parse("file:/x.iso,hdc:cdrom,r").map(|d| d.cdrom), Ok(true));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("/dev/x", "vdev"),
            ("/dev/x,raw,foo", "foo"),
            ("/dev/x,zip,xvda", "zip"),
            ("/dev/x,raw,xvda,rwx", "rwx"),
            ("colour=red,vdev=xvda", "colour"),
            ("vdev=xvda", "target"),
            ("/a,raw,xvda,rw,more", "more"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            let _ = parse(&text);
        }
    }
}
