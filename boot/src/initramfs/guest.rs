//! The example guest: busybox, the Xen front ends, ext4.

use std::path::Path;

use anyhow::Result;
use flate2::Compression;

use super::base;
use crate::compile::gzip;
use crate::debian::Kernel;

const MODULES: [&str; 4] = ["xen-blkfront", "xen-netfront", "ext4", "crc32c_generic"];

pub(super) fn archive(kernel: &Kernel, busybox: &Path) -> Result<Vec<u8>> {
    gzip(
        &base(kernel, busybox, &MODULES, "guest-init")?.finish()?,
        Compression::best(),
    )
}
