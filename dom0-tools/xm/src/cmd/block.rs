//! `xm block-attach` and `block-list`.

use super::create::make_absolute;
use super::devices;
use crate::cli::{BlockAttach, DeviceList};
use crate::output::Output;
use oxen_devices::{Kind, Spec};
use oxen_domain::{Error, Result};

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

pub(super) fn list(args: &DeviceList, out: &Output) -> Result<()> {
    devices::list(Kind::Vbd, args, out, "Mode Format Target", |held| {
        let target = match held.node("params") {
            "" => "(empty)",
            path => path,
        };
        format!(
            "{:<4} {:<6} {target}",
            held.node("mode"),
            held.node("format")
        )
    })
}
