//! Images of other formats than raw, through Debian's qemu-nbd where it is installed.

use crate::bus::Guest;
use oxen_config::DiskSpec;
use oxen_domain::{Error, Result};
use std::path::PathBuf;

/// A qemu-nbd that serves one image as a block device; ended when dropped, unless kept.
#[derive(Debug)]
pub(super) struct Server {
    number: u32,
}

impl Server {
    pub(super) fn start(spec: &DiskSpec, _: &Guest<'_>) -> Result<Self> {
        Err(Error::new(
            format!("cannot use {}", spec.target),
            format!("format {} is not supported yet", spec.format.word()),
        ))
    }

    pub(super) fn device(&self) -> PathBuf {
        format!("/dev/nbd{}", self.number).into()
    }

    pub(super) fn keep(&mut self) {}
}

pub(super) fn release(_: &str) -> Result<()> {
    Ok(())
}
