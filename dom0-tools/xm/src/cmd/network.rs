//! `xm network-attach` and `network-list`.

use super::devices;
use crate::cli::{DeviceList, NetworkAttach};
use crate::output::Output;
use oxen_devices::{Kind, Spec};
use oxen_domain::{Error, Result};

pub(super) fn attach(args: &NetworkAttach, out: &Output) -> Result<()> {
    let card = oxen_config::parse_vif(&args.card.join(",")).map_err(|cause| {
        Error::new("cannot understand the network card", cause)
            .remedy("as in: xm network-attach GUEST bridge=br0")
    })?;
    devices::attach(&args.domain, Spec::Vif(card), out)
}

pub(super) fn list(args: &DeviceList, out: &Output) -> Result<()> {
    let head = format!("{:<17} {:<15} {:<15} IP", "MAC", "Bridge", "Port");
    devices::list(Kind::Vif, args, out, &head, |held| {
        format!(
            "{:<17} {:<15} {:<15} {}",
            held.node("mac"),
            held.node("bridge"),
            held.node("vifname"),
            held.node("ip")
        )
    })
}
