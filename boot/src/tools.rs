//! fio and iperf3 of Debian, with the libraries that they need: for benchmarks and long tests only.
//!
//! In dom0's initramfs they are in their usual places; /boot/tools names the files, of which a
//! ramdisk for guests is made there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use oxen_harness::Images;

use crate::compile::write_whole;
use crate::debian;
use crate::exec::command;
use crate::initramfs::cpio::Archive;

const LOADER: &str = "ld-linux-x86-64.so.2";
const LIBRARIES: &str = "lib/x86_64-linux-gnu";

/// A program of Debian's, unpacked.
pub(crate) struct Program {
    file: PathBuf,
    loader: PathBuf,
    libraries: BTreeSet<PathBuf>,
}

/// Fetches both, and makes the archive that follows dom0's initramfs; returns its path.
pub(crate) fn archive() -> Result<PathBuf> {
    let programs = [program("fio", "fio")?, iperf3()?];
    let mut files = vec![(format!("lib64/{LOADER}"), &programs[0].loader)];
    for program in &programs {
        files.push((format!("bin/{}", name_of(&program.file)?), &program.file));
        for library in &program.libraries {
            files.push((format!("{LIBRARIES}/{}", name_of(library)?), library));
        }
    }
    files.sort();
    files.dedup_by(|one, other| one.0 == other.0);
    let mut archive = Archive::default();
    // A cpio that is told of a file does not make its directory.
    let mut names = format!("bin\nlib\nlib64\n{LIBRARIES}\n");
    for (name, from) in files {
        archive.copy(&name, from)?;
        names += &format!("{name}\n");
    }
    archive.file("boot/tools", false, names.as_bytes())?;
    let path = Images::in_target().tools;
    write_whole(&path, &archive.finish()?)?;
    Ok(path)
}

pub(crate) fn iperf3() -> Result<Program> {
    program("iperf3", "iperf3")
}

impl Program {
    /// The command that runs it here, with the libraries that were unpacked with it.
    pub(crate) fn command(&self) -> Command {
        let mut run = command(&self.loader.to_string_lossy(), ["--library-path"]);
        run.arg(joined(&self.libraries)).arg(&self.file);
        run
    }
}

/// Unpacks a package, and of those it depends on as many as its program needs.
fn program(package: &str, name: &str) -> Result<Program> {
    let libc = debian::unpacked("libc6")?;
    let root = debian::unpacked(package)?;
    let file = root.join("usr/bin").join(name);
    let loader = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"]
        .map(|directory| libc.join(directory).join(LOADER))
        .into_iter()
        .find(|path| path.exists());
    let loader = loader.context("libc6 holds no loader")?;
    // Asking apt for every package takes long: what was found is kept.
    let note = root.join("libraries");
    if let Ok(text) = fs::read_to_string(&note) {
        let libraries: BTreeSet<_> = text.lines().map(PathBuf::from).collect();
        if libraries.iter().all(|path| path.exists()) {
            return Ok(Program {
                file,
                loader,
                libraries,
            });
        }
    }
    let mut packages = vec!["libc6".to_owned(), package.to_owned()];
    let mut seen = 1;
    loop {
        let libraries = needed(&loader, &file, &packages)?;
        if let Some(libraries) = libraries {
            let paths = libraries.iter().map(|path| path.to_string_lossy());
            fs::write(&note, paths.collect::<Vec<_>>().join("\n"))?;
            return Ok(Program {
                file,
                loader,
                libraries,
            });
        }
        let next = packages.get(seen).cloned();
        let next = next.with_context(|| format!("{package}'s packages hold not all it needs"))?;
        seen += 1;
        for library in debian::libraries_of(&next)? {
            if !packages.contains(&library) {
                debian::unpacked(&library)?;
                packages.push(library);
            }
        }
    }
}

/// The libraries of a program by the loader's own search; None while some are not unpacked.
fn needed(loader: &Path, file: &Path, packages: &[String]) -> Result<Option<BTreeSet<PathBuf>>> {
    let mut directories = Vec::new();
    for package in packages {
        let root = debian::unpacked(package)?;
        for directory in ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"] {
            let directory = root.join(directory);
            directories.push(directory.join("ceph"));
            directories.push(directory);
        }
    }
    let paths = directories.iter().map(|path| path.to_string_lossy());
    let paths = paths.collect::<Vec<_>>().join(":");
    let listed = command(
        &loader.to_string_lossy(),
        ["--inhibit-cache", "--library-path", &paths, "--list"],
    )
    .arg(file)
    .output()
    .context("cannot start the loader")?;
    let text = String::from_utf8_lossy(&listed.stdout);
    let complaint = String::from_utf8_lossy(&listed.stderr);
    if complaint.contains("cannot open shared object file") {
        return Ok(None);
    }
    ensure!(
        listed.status.success() && text.contains("=>"),
        "the loader says of {}: {text}{complaint}",
        file.display()
    );
    let found = text.lines().filter_map(|line| line.split_once(" => "));
    Ok(found
        .map(|(_, rest)| {
            let path = PathBuf::from(rest.split(" (").next().unwrap_or_default().trim());
            // One of this machine's own may be of another release.
            directories
                .iter()
                .any(|directory| path.starts_with(directory))
                .then_some(path)
        })
        .collect())
}

fn joined(libraries: &BTreeSet<PathBuf>) -> String {
    let directories: BTreeSet<_> = libraries.iter().filter_map(|path| path.parent()).collect();
    let names = directories.into_iter().map(Path::to_string_lossy);
    names.collect::<Vec<_>>().join(":")
}

fn name_of(path: &Path) -> Result<String> {
    let name = path.file_name().context("a path without a name")?;
    Ok(name.to_string_lossy().into_owned())
}
