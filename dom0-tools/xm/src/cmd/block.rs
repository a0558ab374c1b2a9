//! `xm block-attach`, `block-list`, `cd-insert` and `cd-eject`.

use super::create::make_absolute;
use super::{control, devices};
use crate::cli::{BlockAttach, DeviceList};
use crate::output::Output;
use oxen_devices::{Kind, Spec};
use oxen_domain::{Error, Result};
use xmd_api::Op;

pub(super) fn attach(args: &BlockAttach, out: &Output) -> Result<()> {
    let text = args.disk.join(",");
    let mut disk = oxen_config::parse_disk(&text).map_err(|cause| {
        Error::new("cannot understand the disk", cause)
            .remedy("as in: xm block-attach GUEST /srv/data.img,raw,xvdb,rw")
    })?;
    if !disk.target.is_empty() {
        make_absolute(&mut disk.target)?;
    }
    devices::attach(&args.domain, Spec::Vbd(disk), out)
}

/// Puts a disc in, or takes it out.
pub(super) fn change_disc(
    domain: String,
    device: String,
    mut target: Option<String>,
    out: &Output,
) -> Result<()> {
    if let Some(path) = &mut target {
        make_absolute(path)?;
    }
    let op = Op::Media {
        domain,
        device,
        target,
    };
    control::one(op, out)
}

pub(super) fn list(args: &DeviceList, out: &Output) -> Result<()> {
    devices::list(Kind::Vbd, args, out, "Mode Format Target", |held| {
        format!(
            "{:<4} {:<6} {}",
            held.node("mode"),
            held.node("format"),
            held.node("params")
        )
    })
}
