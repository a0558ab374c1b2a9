//! Debian's own Xen: the hypervisor and the toolset, fetched as packages and unpacked.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use oxen_harness::images;

use crate::compile::write_whole;
use crate::debian;
use crate::initramfs::cpio::Archive;

const HYPERVISOR: &str = "xen-hypervisor-4.17-amd64";
const TOOLS: &str = "xen-utils-4.17";
const PROGRAMS: &str = "usr/lib/xen-4.17/bin";
/// The programs that create and keep guests.
const WANTED: [&str; 5] = [
    "xl",
    "xenstored",
    "xenconsoled",
    "xen-init-dom0",
    "libxl-save-helper",
];
/// Where those programs' shared libraries come from.
const LIBRARIES: [&str; 17] = [
    "libxencall1",
    "libxendevicemodel1",
    "libxenevtchn1",
    "libxenforeignmemory1",
    "libxengnttab1",
    "libxenhypfs1",
    "libxenmisc4.17",
    "libxenstore4",
    "libxentoolcore1",
    "libxentoollog1",
    "libyajl2",
    "libc6",
    "libuuid1",
    "zlib1g",
    "liblzma5",
    "libzstd1",
    "libgcc-s1",
];
const LIBRARY_PATHS: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];
const LOADER: &str = "lib64/ld-linux-x86-64.so.2";

/// The hypervisor as packed by Debian, and unpacked for QEMU's multiboot loader.
pub(crate) struct Hypervisor {
    pub(crate) packed: PathBuf,
    pub(crate) elf: PathBuf,
}

pub(crate) fn hypervisor() -> Result<Hypervisor> {
    let root = debian::unpacked(HYPERVISOR)?;
    let packed = root.join("boot/xen-4.17-amd64.gz");
    let elf = images::target_dir().join("bench/xen");
    let mut bytes = Vec::new();
    let file = fs::File::open(&packed).with_context(|| format!("{HYPERVISOR} lacks its image"))?;
    GzDecoder::new(file).read_to_end(&mut bytes)?;
    write_whole(&elf, &bytes)?;
    Ok(Hypervisor { packed, elf })
}

/// The toolset's programs with their libraries, where they look for them.
pub(crate) fn tools(archive: &mut Archive) -> Result<()> {
    let root = debian::unpacked(TOOLS)?;
    for program in WANTED {
        let path = format!("{PROGRAMS}/{program}");
        archive.copy(&path, &root.join(&path))?;
    }
    for package in LIBRARIES {
        let root = debian::unpacked(package)?;
        for directory in LIBRARY_PATHS {
            shared_libraries(&root.join(directory), archive)?;
        }
    }
    let libc = debian::unpacked("libc6")?;
    archive.copy(
        LOADER,
        &libc.join("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),
    )
}

fn shared_libraries(directory: &Path, archive: &mut Archive) -> Result<()> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Ok(());
    };
    let mut files: Vec<_> = entries
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Links by the names that programs ask for are copied as files.
        if name.contains(".so.") && !UNUSED.iter().any(|unused| name.starts_with(unused)) {
            archive.copy(&format!("lib/x86_64-linux-gnu/{name}"), &path)?;
        }
    }
    Ok(())
}

/// The C library's other parts.
const UNUSED: [&str; 10] = [
    "libnss_",
    "libBrokenLocale",
    "libanl",
    "libnsl",
    "libthread_db",
    "libpcprofile",
    "libmemusage",
    "libc_malloc_debug",
    "libmvec",
    "libresolv",
];
