//! Images of other formats than raw, through Debian's qemu-nbd where it is installed: one process
//! for each image, which outlives xmd. A pid file marks the processes that xmd started.

use oxen_config::{DiskAccess, DiskFormat, DiskSpec};
use oxen_domain::{Error, Result};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const NOTES: &str = "/run/xen/nbd";
/// How long the kernel may take to see a new server, and a server to end.
const LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

/// A qemu-nbd that serves one image as a block device; ended when dropped, unless kept.
#[derive(Debug)]
pub(super) struct Server {
    number: u32,
    kept: bool,
}

impl Server {
    pub(super) fn start(spec: &DiskSpec) -> Result<Self> {
        let what = format!("cannot use {}", spec.target);
        if spec.shared {
            let cause = format!(
                "several writers would destroy a {} image",
                spec.format.word()
            );
            return Err(Error::new(what, cause).remedy("share a raw image or a block device"));
        }
        fs::create_dir_all(NOTES)
            .map_err(|error| Error::new(format!("cannot make {NOTES}"), error))?;
        let number = free_device(&what)?;
        let note = note(number);
        let mut command = Command::new("qemu-nbd");
        command
            .args(["--fork", "--discard=unmap"])
            .arg(format!("--connect={}", device(number).display()))
            .arg(format!("--pid-file={}", note.display()))
            .arg(format!("--socket={}", socket(number).display()))
            .arg(format!("--format={}", driver(spec.format)));
        if can_be_direct(Path::new(&spec.target)) {
            command.args(["--cache=none", "--aio=threads"]);
        }
        if spec.access == DiskAccess::Ro {
            command.arg("--read-only");
        }
        let done = command.arg(&spec.target).stdin(Stdio::null()).output();
        let output = done.map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                let cause = format!(
                    "qemu-nbd, which serves {}, is not installed",
                    spec.format.word()
                );
                Error::new(&what, cause)
                    .remedy("apt install qemu-utils, or convert the image to raw")
            }
            _ => Error::new(&what, error),
        })?;
        // From here on it is ended if anything fails.
        let server = Self {
            number,
            kept: false,
        };
        if !output.status.success() {
            return Err(Error::new(what, said(&output.stderr)));
        }
        if wait(|| size(number) > 0) {
            return Ok(server);
        }
        Err(Error::new(what, "qemu-nbd serves no sectors of it"))
    }

    pub(super) fn device(&self) -> PathBuf {
        device(self.number)
    }

    /// The driver has it now.
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.kept {
            // The next sweep tries again.
            let _ = end(self.number);
        }
    }
}

/// Ends the server behind a device, if xmd started it.
pub(super) fn release(path: &str) -> Result<()> {
    match path.strip_prefix("/dev/nbd").and_then(|n| n.parse().ok()) {
        Some(number) if note(number).exists() => end(number),
        _ => Ok(()),
    }
}

/// Ends servers of xmd that serve none of these devices, which a killed xmd left.
pub(super) fn sweep(used: &[&str]) -> Result<()> {
    let Ok(notes) = fs::read_dir(NOTES) else {
        return Ok(());
    };
    for note in notes.flatten() {
        let name = note.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_suffix(".pid")?.parse::<u32>().ok());
        if let Some(number) = number
            && !used.iter().any(|path| Path::new(path) == device(number))
        {
            end(number)?;
        }
    }
    Ok(())
}

fn end(number: u32) -> Result<()> {
    let what = || format!("cannot end the server of {}", device(number).display());
    let done = Command::new("qemu-nbd")
        .arg("--disconnect")
        .arg(device(number))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Error::new(what(), error))?;
    if !wait(|| size(number) == 0 && !is_served(number)) {
        return Err(Error::new(what(), said(&done.stderr)));
    }
    // qemu-nbd removes this by itself, as a rule.
    let _ = fs::remove_file(socket(number));
    match fs::remove_file(note(number)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::new(what(), error)),
        _ => Ok(()),
    }
}

fn free_device(what: &str) -> Result<u32> {
    if !Path::new("/sys/block/nbd0").exists() {
        // Without partitions of ours: what is on the disk is the guest's affair.
        let _ = Command::new("modprobe")
            .args(["nbd", "max_part=0"])
            .stdin(Stdio::null())
            .output();
    }
    let devices = (0..).take_while(|number| sysfs(*number).exists());
    let mut any = false;
    for number in devices {
        any = true;
        if !is_served(number) && size(number) == 0 && !note(number).exists() {
            return Ok(number);
        }
    }
    Err(match any {
        true => Error::new(what, "all nbd devices are in use")
            .remedy("load the module with more of them: modprobe nbd nbds_max=64"),
        false => Error::new(what, "dom0's kernel has no nbd devices").remedy("modprobe nbd"),
    })
}

/// File systems in memory cannot.
fn can_be_direct(path: &Path) -> bool {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
    let file = fs::File::options()
        .read(true)
        .custom_flags(flags)
        .open(path);
    file.is_ok()
}

/// qemu's name of a format.
fn driver(format: DiskFormat) -> &'static str {
    match format {
        DiskFormat::Vhd => "vpc",
        other => other.word(),
    }
}

/// The last line of qemu-nbd's standard error.
fn said(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().rfind(|line| !line.trim().is_empty());
    let line = line.unwrap_or("qemu-nbd failed without a word");
    line.trim_start_matches("qemu-nbd: ").to_owned()
}

fn wait(mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + LIMIT;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
}

fn is_served(number: u32) -> bool {
    sysfs(number).join("pid").exists()
}

fn size(number: u32) -> u64 {
    let text = fs::read_to_string(sysfs(number).join("size")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn sysfs(number: u32) -> PathBuf {
    format!("/sys/block/nbd{number}").into()
}

fn device(number: u32) -> PathBuf {
    format!("/dev/nbd{number}").into()
}

fn note(number: u32) -> PathBuf {
    format!("{NOTES}/{number}.pid").into()
}

fn socket(number: u32) -> PathBuf {
    format!("{NOTES}/{number}.sock").into()
}

#[cfg(test)]
mod tests {
    use super::said;

    #[test]
    fn the_last_line_is_the_complaint() {
        let text = b"qemu-nbd: warning\nqemu-nbd: Failed to get \"write\" lock\n\n";
        assert_eq!(said(text), "Failed to get \"write\" lock");
        assert!(said(b"").contains("without a word"));
    }
}
