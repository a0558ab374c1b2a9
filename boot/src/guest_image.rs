//! A disk image with Debian 12 for a guest: `mmdebstrap` makes the root file system from the
//! machine's own apt sources, `mke2fs` the ext4 file system, `sfdisk` the partition table around
//! it.
//!
//! Making one takes minutes, so a finished one is kept in the cache under a name that tells what
//! went into it, and copied (holes stay holes) to where it is wanted.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use clap::Args;
use oxen_harness::images;

use crate::compile::make_parent;
use crate::exec::{command, output, run, text};

const RELEASE: &str = "bookworm";
/// Beyond what every Debian has: a kernel and what boots it, systemd, a network, tools for its
/// disk; and qemu-nbd, which dom0 borrows from the disk in the test of images that are not raw.
const PACKAGES: [&str; 17] = [
    "linux-image-amd64",
    "initramfs-tools",
    "zstd",
    "grub2-common",
    "systemd-sysv",
    "systemd-resolved",
    "udev",
    "dbus",
    "kmod",
    "e2fsprogs",
    "iproute2",
    "iputils-ping",
    "ca-certificates",
    "procps",
    "less",
    "nano",
    "qemu-utils",
];
/// Files that a guest under test has no use for.
const LEFT_OUT: [&str; 4] = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
];
/// Where the partition begins, and what is left free behind it for the second copy of its table.
const ALIGN: u64 = 1 << 20;

/// Makes a disk image with Debian 12 for a guest: root on ext4, kernel and GRUB's menu inside,
/// systemd, a login on hvc0 for root without a password, eth0 by DHCP. Needs root, and the packages
/// mmdebstrap, e2fsprogs and fdisk, which ./x installs.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Where to put it [default: debian-guest.img among the images that ./x image makes]
    #[arg(long)]
    output: Option<PathBuf>,
    /// Size of the disk in GiB; what is not used takes no space
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(2..=2048))]
    size: u64,
    /// Make it anew, with the packages of today
    #[arg(long)]
    refresh: bool,
}

pub(crate) fn make(arguments: &Arguments) -> Result<()> {
    let wanted = arguments
        .output
        .clone()
        .unwrap_or_else(|| images::target_dir().join("image/debian-guest.img"));
    let kept = kept(arguments.size)?;
    if arguments.refresh || !kept.exists() {
        build(&kept, arguments.size << 30)?;
    }
    make_parent(&wanted)?;
    run(command("cp", ["--sparse=always", "--reflink=auto"])
        .arg(&kept)
        .arg(&wanted))?;
    println!("{}", wanted.display());
    Ok(())
}

/// The cached image's name.
fn kept(size: u64) -> Result<PathBuf> {
    let setup = fs::read(setup()).context("cannot read the guest's setup")?;
    let mut hash = DefaultHasher::new();
    (setup, PACKAGES, LEFT_OUT, size).hash(&mut hash);
    let name = format!("{RELEASE}-{:016x}.img", hash.finish());
    Ok(cache().join(name))
}

fn cache() -> PathBuf {
    let base = std::env::var_os("OXEN_CACHE")
        .map_or_else(|| images::root().join("target/cache"), PathBuf::from);
    base.join("guest-image")
}

fn setup() -> PathBuf {
    images::root().join("boot/guest-image/setup")
}

fn build(image: &Path, bytes: u64) -> Result<()> {
    ensure!(
        text(&mut command("id", ["-u"]))?.trim() == "0",
        "making a guest's root file system takes root (its files have owners and devices): run this as root"
    );
    make_parent(image)?;
    // On the cache's own file system: a gigabyte may be too much for /tmp.
    let work = image.with_extension(format!("work{}", std::process::id()));
    let result = build_in(&work, image, bytes);
    let cleaned = run(command("rm", ["-rf", "--one-file-system"]).arg(&work));
    result.and(cleaned)
}

fn build_in(work: &Path, image: &Path, bytes: u64) -> Result<()> {
    fs::create_dir_all(work)?;
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    let uuid = uuid.trim();
    let root = work.join("root");
    eprintln!("x: making Debian {RELEASE}'s root file system (some minutes)");
    bootstrap(&root, &work.join("sources.list"), uuid)?;
    eprintln!("x: making the disk image");
    let disk = work.join("disk.img");
    File::create(&disk)?.set_len(bytes)?;
    partition(&disk)?;
    let blocks = (bytes - 2 * ALIGN) / 4096;
    // What newer versions of mke2fs add by themselves, Debian 12's own tools do not know.
    let mut format = command("mke2fs", ["-q", "-F", "-t", "ext4", "-b", "4096"]);
    format.args([
        "-O",
        "^metadata_csum_seed,^orphan_file",
        "-L",
        "debian",
        "-U",
        uuid,
    ]);
    format.args(["-E", &format!("offset={ALIGN}"), "-d"]);
    output(format.arg(&root).arg(&disk).arg(blocks.to_string()))?;
    fs::rename(&disk, image).with_context(|| format!("cannot write {}", image.display()))
}

fn bootstrap(root: &Path, sources: &Path, uuid: &str) -> Result<()> {
    fs::write(sources, apt_sources()?)?;
    // What it mounts meanwhile nobody else sees, and is gone with it.
    let mut bootstrap = command("unshare", ["--mount", "--", "mmdebstrap"]);
    bootstrap.args(["--quiet", "--mode=root", "--variant=minbase"]);
    bootstrap.arg("--format=directory");
    bootstrap.arg(format!("--include={}", PACKAGES.join(",")));
    for path in LEFT_OUT {
        bootstrap.arg(format!("--dpkgopt=path-exclude={path}"));
    }
    let hook = format!("'{}' \"$1\"", setup().display());
    bootstrap.arg(format!("--customize-hook={hook}"));
    bootstrap.arg(RELEASE).arg(root).arg(sources);
    output(bootstrap.env("UUID", uuid)).map(drop)
}

/// The machine's own sources of the release, as lines of a sources.list. Keys stay with the
/// machine: the guest has those of Debian's own package.
fn apt_sources() -> Result<String> {
    let mut ask = command("apt-get", ["indextargets", "--format"]);
    ask.arg("$(CODENAME) deb $(REPO_URI) $(RELEASE) $(COMPONENT)");
    let found = text(ask.args(["Created-By: Packages", "Origin: Debian"]))?;
    let lines: Vec<&str> = found
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(codename, _)| codename.starts_with(RELEASE))
        .map(|(_, line)| line)
        .collect();
    ensure!(
        !lines.is_empty(),
        "apt knows no source of Debian's {RELEASE} here: add one to its sources, and run apt-get update"
    );
    Ok(lines.join("\n") + "\n")
}

fn partition(disk: &Path) -> Result<()> {
    let mut sfdisk = command("sfdisk", ["-q", "--no-reread", "--no-tell-kernel"]);
    let mut sfdisk = sfdisk
        .arg(disk)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start sfdisk")?;
    let mut input = sfdisk.stdin.take().context("sfdisk takes no input")?;
    writeln!(input, "label: gpt\nstart={}, type=linux", ALIGN / 512)?;
    drop(input);
    ensure!(sfdisk.wait()?.success(), "sfdisk failed");
    Ok(())
}
