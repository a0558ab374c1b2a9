//! Fetches Debian's packages without installing them: the current stock kernel, and busybox.
//!
//! No root is needed: apt downloads, dpkg-deb unpacks. Where apt has no package lists (a fresh
//! container, say), lists of our own are fetched into the cache. Once a day is often enough to ask
//! which kernel is current; without a network the cached one is used.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use oxen_harness::images;

use crate::exec::{command, output, run, text};

/// Asked again after this time.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// Directories of modules that no machine of ours needs; unpacked they would take 300 MB.
const UNWANTED: [&str; 7] = [
    "drivers/gpu",
    "drivers/media",
    "sound",
    "drivers/net/wireless",
    "drivers/infiniband",
    "drivers/staging",
    "drivers/iio",
];

/// An unpacked kernel package.
pub(crate) struct Kernel {
    pub(crate) version: String,
    pub(crate) image: PathBuf,
    /// lib/modules/VERSION
    pub(crate) modules: PathBuf,
}

/// Where packages are kept, beyond `cargo clean`.
fn cache() -> PathBuf {
    let base = std::env::var_os("OXEN_CACHE")
        .map_or_else(|| images::root().join("target/cache"), PathBuf::from);
    base.join("debian")
}

/// The kernel that Debian ships now.
pub(crate) fn kernel() -> Result<Kernel> {
    let package = current_kernel()?;
    let root = unpacked(&package)?;
    let version = package
        .strip_prefix("linux-image-")
        .unwrap_or(&package)
        .to_owned();
    let image = root.join("boot").join(format!("vmlinuz-{version}"));
    ensure!(image.exists(), "{package} holds no {}", image.display());
    let modules =
        ["lib/modules", "usr/lib/modules"].map(|directory| root.join(directory).join(&version));
    let modules = modules
        .into_iter()
        .find(|path| path.exists())
        .with_context(|| format!("{package} holds no modules"))?;
    Ok(Kernel {
        version,
        image,
        modules,
    })
}

/// A static busybox: the machine's own, or Debian's.
pub(crate) fn busybox() -> Result<PathBuf> {
    let root = unpacked("busybox-static")?;
    let found = ["bin/busybox", "usr/bin/busybox"]
        .map(|path| root.join(path))
        .into_iter()
        .find(|path| path.exists());
    found.context("busybox-static holds no busybox")
}

/// The package that linux-image-amd64 depends on.
fn current_kernel() -> Result<String> {
    let note = cache().join("current-kernel");
    let known = fs::read_to_string(&note).ok();
    let age = fs::metadata(&note)
        .and_then(|meta| meta.modified())
        .ok()
        .and_then(|time| time.elapsed().ok());
    if let (Some(known), Some(age)) = (&known, age)
        && age < FRESH
    {
        return Ok(known.clone());
    }
    match ask_for_kernel() {
        Ok(package) => {
            fs::create_dir_all(cache())?;
            fs::write(&note, &package)?;
            Ok(package)
        }
        Err(error) => {
            let known = known
                .ok_or(error)
                .context("cannot find out which kernel is Debian's current one")?;
            eprintln!("x: apt does not answer; staying with the cached {known}");
            Ok(known)
        }
    }
}

fn ask_for_kernel() -> Result<String> {
    let record = match show("linux-image-amd64") {
        Some(record) => record,
        None => {
            refresh_lists()?;
            show("linux-image-amd64")
                .context("apt knows no package linux-image-amd64 (is this Debian?)")?
        }
    };
    let depends = record
        .lines()
        .find_map(|line| line.strip_prefix("Depends: "))
        .context("linux-image-amd64 depends on nothing")?;
    let package = depends
        .split([',', ' '])
        .find(|word| word.starts_with("linux-image-"));
    Ok(package
        .with_context(|| format!("no kernel among {depends:?}"))?
        .to_owned())
}

/// The libraries' packages that a package depends on.
pub(crate) fn libraries_of(package: &str) -> Result<Vec<String>> {
    let record = match show(package) {
        Some(record) => record,
        None => {
            refresh_lists()?;
            show(package).with_context(|| format!("apt knows no package {package}"))?
        }
    };
    let depends = record
        .lines()
        .filter_map(|line| line.strip_prefix("Depends: "))
        .flat_map(|line| line.split(','));
    Ok(depends
        .filter_map(|one| one.split_whitespace().next())
        .filter(|name| name.starts_with("lib") || name.starts_with("zlib"))
        .map(str::to_owned)
        .collect())
}

/// apt's newest record of a package.
fn show(package: &str) -> Option<String> {
    let record = text(apt("apt-cache").args(["show", "--no-all-versions", package])).ok()?;
    (!record.trim().is_empty()).then_some(record)
}

/// The package, downloaded and unpacked in the cache.
pub(crate) fn unpacked(package: &str) -> Result<PathBuf> {
    let root = cache().join(package);
    if root.join("complete").exists() {
        return Ok(root);
    }
    eprintln!("x: fetching Debian's {package} (for the image; it is unpacked, not installed)");
    let work = cache().join(format!("{package}.{}", std::process::id()));
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let unpacked = download(package, &work).and_then(|file| unpack(&file, &work));
    if let Err(error) = unpacked {
        let _ = fs::remove_dir_all(&work);
        return Err(error);
    }
    fs::write(work.join("complete"), "")?;
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    fs::rename(&work, &root)?;
    Ok(root)
}

fn download(package: &str, into: &Path) -> Result<PathBuf> {
    let get = || {
        output(
            apt("apt-get")
                .args(["-q", "download", package])
                .current_dir(into),
        )
    };
    if get().is_err() {
        // The lists name a version that the mirror has dropped, or there are none.
        refresh_lists()?;
        get().with_context(|| format!("cannot download {package}"))?;
    }
    for entry in fs::read_dir(into)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            return Ok(path);
        }
    }
    bail!("apt-get downloaded no {package}");
}

fn unpack(file: &Path, into: &Path) -> Result<()> {
    let mut archive = command("dpkg-deb", ["--fsys-tarfile"]);
    let mut archive = archive
        .arg(file)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start dpkg-deb")?;
    let pipe = archive.stdout.take().context("dpkg-deb has no output")?;
    let mut tar = command("tar", ["-x", "--no-same-owner", "-C"]);
    tar.arg(into).stdin(pipe);
    for directory in UNWANTED {
        tar.arg(format!("--exclude=*/kernel/{directory}"));
    }
    run(&mut tar)?;
    ensure!(
        archive.wait()?.success(),
        "dpkg-deb cannot read {}",
        file.display()
    );
    fs::remove_file(file)?;
    Ok(())
}

/// Package lists of our own, for those who may not refresh the system's, or have none.
fn refresh_lists() -> Result<()> {
    eprintln!(
        "x: refreshing apt's package lists (in {})",
        own_lists().display()
    );
    fs::create_dir_all(own_lists().join("lists/partial"))?;
    fs::create_dir_all(own_lists().join("cache/archives/partial"))?;
    output(apt("apt-get").args(["-q", "update"]))
        .map(drop)
        .context("apt-get update failed")
}

fn own_lists() -> PathBuf {
    cache().join("apt")
}

/// An apt command that uses our lists if there are any. As root, apt would drop to a user who
/// cannot write to our cache.
fn apt(program: &str) -> Command {
    let mut apt = command(program, ["-o", "APT::Sandbox::User=root"]);
    if own_lists().exists() {
        let path = own_lists();
        apt.arg("-o")
            .arg(format!("Dir::State::lists={}/lists", path.display()));
        apt.arg("-o")
            .arg(format!("Dir::Cache={}/cache", path.display()));
    }
    apt
}
