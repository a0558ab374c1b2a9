//! The initramfs images: dom0's, one of it without drivers and stock guests, and that of the
//! example guests.

pub(crate) mod cpio;
mod dom0;
mod guest;
mod modules;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use oxen_harness::{Images, images};

use crate::compile::{self, write_whole};
use crate::debian::{self, Kernel};
use crate::exec::{command, text};
use cpio::Archive;
use modules::Modules;

use crate::unpacked::unpacked_kernel;

/// Builds both, and copies the kernel, into the image directory; returns a note on them.
pub(crate) fn build(programs: &[PathBuf]) -> Result<String> {
    let images = Images::in_target();
    let kernel = debian::kernel()?;
    let busybox = debian::busybox()?;
    let vmlinuz = std::fs::read(&kernel.image)
        .with_context(|| format!("cannot read {}", kernel.image.display()))?;
    write_whole(&images.kernel, &vmlinuz)?;
    let guest = guest::archive(&kernel, &busybox)?;
    write_whole(&images.guest_initrd, &guest)?;
    let test = compile::test_guest()?;
    let dom0 = |linux| {
        let kernels = dom0::GuestKernels { linux, test: &test };
        dom0::archive(&kernel, &busybox, programs, &kernels)
    };
    write_whole(&images.small_initrd, &dom0(None)?)?;
    let dom0 = dom0(Some((&vmlinuz[..], &guest[..])))?;
    write_whole(&images.initrd, &dom0)?;
    let guests = vmlinuz.len() + guest.len();
    Ok(format!(
        "dom0: Linux {}, initramfs {} bytes ({guests} of them for guests)",
        kernel.version,
        dom0.len()
    ))
}

/// The part that both have: busybox with its applets, modules, the first process.
fn base(kernel: &Kernel, busybox: &Path, modules: &[&str], init: &str) -> Result<Archive> {
    let mut archive = Archive::default();
    for directory in ["dev", "proc", "sys", "run", "root", "mnt", "etc"] {
        archive.directory(directory)?;
    }
    for directory in ["tmp", "var/log", "var/lib"] {
        archive.directory(directory)?;
    }
    archive.symlink("var/run", "/run")?;
    // The kernel opens it for the first process before anything is mounted.
    archive.character_device("dev/console", 5, 1)?;
    archive.character_device("dev/null", 1, 3)?;
    archive.copy("bin/busybox", busybox)?;
    for applet in text(command(&busybox.to_string_lossy(), ["--list"]).env_clear())?.lines() {
        if applet != "busybox" {
            archive.symlink(&format!("bin/{applet}"), "busybox")?;
        }
    }
    for alias in ["sbin", "usr/bin", "usr/sbin"] {
        archive.symlink(alias, "/bin")?;
    }
    archive.file("init", true, &script(init)?)?;
    archive.file("etc/udhcpc/default.script", true, &script("udhcpc-script")?)?;
    archive.file("etc/passwd", false, b"root:x:0:0:root:/root:/bin/sh\n")?;
    archive.file("etc/group", false, b"root:x:0:\n")?;
    Modules::new(&kernel.version, &kernel.modules)?.add(modules, &mut archive)?;
    Ok(archive)
}

/// One of the scripts under boot/initramfs.
fn script(name: &str) -> Result<Vec<u8>> {
    let path = images::root().join("boot/initramfs").join(name);
    std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// dom0's initramfs with what stock guests boot; the kernel is /boot/vmlinux there, unpacked.
pub(crate) fn with_stock_guest(initrd: &Path) -> Result<PathBuf> {
    let images = Images::in_target();
    let mut archive = Archive::default();
    archive.copy("boot/vmlinux", &unpacked_kernel()?)?;
    archive.copy("boot/guest.cpio.gz", &images.guest_initrd)?;
    let read = |file: &Path| {
        std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
    };
    let whole = images.initrd.with_file_name("dom0-stock-guest.cpio");
    // The kernel unpacks archives that follow one another.
    write_whole(&whole, &[read(initrd)?, archive.finish()?].concat())?;
    Ok(whole)
}

/// An archive to follow dom0's: a command that it runs instead of a shell.
pub(crate) fn with_command(shell_command: &str) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.file(
        "etc/oxen/command",
        true,
        format!("{shell_command}\n").as_bytes(),
    )?;
    archive.finish()
}
