//! The NAT network: a bridge without a card of the host in it, an address of the host on it, and
//! the host's own address for whatever leaves it.

use crate::firewall::Firewall;
use crate::link::{Change, Links};
use crate::network::{NAT_BRIDGE, Subnet};
use crate::{Error, Mac, Result};
use std::io;

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// Makes the network, or completes what exists of it.
///
/// # Errors
/// `Error` that names the step that the kernel refuses.
pub fn ensure(subnet: Subnet) -> Result<()> {
    let step = |what: &'static str| {
        move |error: io::Error| Error::new(format!("cannot set up the NAT network: {what}"), error)
    };
    let mut links = Links::open().map_err(step("talking to the kernel"))?;
    let bridge = links
        .make_bridge(NAT_BRIDGE, Mac::of_bridge(NAT_BRIDGE))
        .map_err(step("making its bridge"))?;
    links
        .add_address(bridge.index, subnet.host, subnet.prefix)
        .map_err(step("giving the host its address"))?;
    let up = Change {
        up: Some(true),
        ..Change::default()
    };
    links
        .change(bridge.index, &up)
        .map_err(step("starting its bridge"))?;
    Firewall::open()
        .and_then(|mut firewall| firewall.set_nat(NAT_BRIDGE, subnet))
        .map_err(step("setting its rules"))?;
    std::fs::write(FORWARD, "1").map_err(step("letting packets through"))
}
