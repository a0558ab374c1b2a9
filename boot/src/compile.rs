//! Compiles what goes into the image: the hypervisor for the bare target, dom0's tools as static
//! programs.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use flate2::{Compression, GzBuilder};
use oxen_harness::{Images, images};

use crate::exec::{command, run};
use crate::symbols;

pub(crate) const BARE: &str = "x86_64-unknown-none";
const HOST: &str = "x86_64-unknown-linux-gnu";

/// The store's command, a second program of the package xenstored.
const STORE_CLIENT: &str = "xenstore";

/// The program that tests run in dom0.
pub(crate) const TEST_PROGRAM: &str = "test-xstate";

/// The programs of dom0. A package that has no such program yet is left out.
pub(crate) const DOM0_PROGRAMS: [&str; 6] =
    ["xenstored", "xenconsoled", "xnetd", "xmd", "xm", "xmgrub"];

/// Bytes that the image may have, as it is shipped.
const MOST: usize = 300_000;

/// Builds `oxen` and `oxen.gz` in the image directory; returns a note on them.
///
/// # Errors
/// The compiler's and the linker's, and if the image is larger than [`MOST`].
pub(crate) fn hypervisor() -> Result<String> {
    run(cargo().args(["build", "-q", "--release", "--target", BARE, "-p", "oxen"]))?;
    let built = images::target_dir().join(BARE).join("release/oxen");
    let elf = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let images = Images::in_target();
    let (symbols, stripped, packed) = packed(elf, &images.hypervisor)?;
    fs::write(&images.hypervisor_gz, &packed)?;
    ensure!(
        packed.len() <= MOST,
        "the image has {} bytes, {} more than {MOST}",
        packed.len(),
        packed.len() - MOST
    );
    Ok(format!(
        "hypervisor: {} bytes, {} compressed; {symbols}",
        stripped.len(),
        packed.len()
    ))
}

/// Writes the hypervisor with its table of names and without debug information. Returns a note on
/// the names, the file's bytes, and those of its gzip.
pub(crate) fn packed(mut elf: Vec<u8>, to: &Path) -> Result<(String, Vec<u8>, Vec<u8>)> {
    let symbols = symbols::embed(&mut elf)?;
    make_parent(to)?;
    // What users and QEMU load needs no debug information; gdb takes it from cargo's file.
    let stripped = strip(to, &elf)?;
    let packed = gzip_small(&stripped)?;
    Ok((symbols, stripped, packed))
}

/// Builds the kernel of the tests' guests; returns it without its symbols.
pub(crate) fn test_guest() -> Result<Vec<u8>> {
    run(cargo().args([
        "build",
        "-q",
        "--release",
        "--target",
        BARE,
        "-p",
        "test-guests",
    ]))?;
    let built = images::target_dir().join(BARE).join("release/test-guest");
    let elf = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let image = Images::in_target().hypervisor.with_file_name("test-guest");
    make_parent(&image)?;
    strip(&image, &elf)
}

/// The names of the hypervisor's functions, as [`symbols::list`] makes them.
pub(crate) fn names() -> Result<String> {
    let built = hypervisor_with_symbols();
    let elf = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    symbols::list_of(&elf)
}

/// The hypervisor with debug information.
pub(crate) fn hypervisor_with_symbols() -> PathBuf {
    images::target_dir().join(BARE).join("release/oxen")
}

/// Builds dom0's programs, static, and returns those that exist.
pub(crate) fn dom0_programs() -> Result<Vec<PathBuf>> {
    let mut build = cargo();
    build.args(["build", "-q", "--profile", "dom0", "--target", HOST]);
    for package in DOM0_PROGRAMS.iter().chain(&[TEST_PROGRAM]) {
        build.args(["-p", package]);
    }
    // With --target given, these flags reach neither build scripts nor macros.
    build.env(
        "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
        "-Ctarget-feature=+crt-static",
    );
    run(&mut build)?;
    let directory = images::target_dir().join(HOST).join("dom0");
    Ok(DOM0_PROGRAMS
        .iter()
        .chain(&[STORE_CLIENT, TEST_PROGRAM])
        .map(|name| directory.join(name))
        .filter(|file| file.exists())
        .collect())
}

/// Cargo, as `./x` has set it up.
pub(crate) fn cargo() -> std::process::Command {
    let mut cargo = command("cargo", [""; 0]);
    cargo.current_dir(images::root());
    cargo
}

/// Cargo with `core` and `alloc` for size, if `./x` has made them.
pub(crate) fn small_cargo() -> std::process::Command {
    match std::env::var_os("OXEN_SMALL_CARGO") {
        Some(program) => {
            let mut cargo = std::process::Command::new(program);
            cargo.current_dir(images::root());
            cargo
        }
        None => cargo(),
    }
}

pub(crate) fn strip(to: &Path, elf: &[u8]) -> Result<Vec<u8>> {
    let full = to.with_extension("full");
    fs::write(&full, elf)?;
    run(command("objcopy", ["--strip-all"]).arg(&full).arg(to))?;
    fs::remove_file(&full)?;
    Ok(fs::read(to)?)
}

pub(crate) fn gzip(data: &[u8], level: Compression) -> Result<Vec<u8>> {
    // No name and no time inside: the same input gives the same file.
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), level);
    encoder.write_all(data)?;
    Ok(encoder.finish()?)
}

/// The same format, made with more patience: a tenth smaller.
pub(crate) fn gzip_small(data: &[u8]) -> Result<Vec<u8>> {
    let mut packed = Vec::new();
    zopfli::compress(
        zopfli::Options::default(),
        zopfli::Format::Gzip,
        data,
        &mut packed,
    )?;
    Ok(packed)
}

pub(crate) fn make_parent(file: &Path) -> Result<()> {
    let parent = file
        .parent()
        .with_context(|| format!("{} has no parent", file.display()))?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))
}

/// Writes a file so that a reader sees the old or the new one, never a part.
pub(crate) fn write_whole(file: &Path, data: &[u8]) -> Result<()> {
    make_parent(file)?;
    let new = file.with_extension(format!("new{}", std::process::id()));
    File::create(&new)
        .and_then(|mut out| out.write_all(data))
        .with_context(|| format!("cannot write {}", new.display()))?;
    fs::rename(&new, file).with_context(|| format!("cannot write {}", file.display()))
}
