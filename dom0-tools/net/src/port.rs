//! A guest's card on its network. The kernel's back end makes the device (`vifDOMAIN.NUMBER`); this
//! module sets its name, its MTU, its guard and its bridge.

use crate::firewall::{self, Firewall, Guard};
use crate::lease::{DIRECTORY, Leases};
use crate::link::{Change, Links};
use crate::network::{PRIVATE_PREFIX, Settings};
use crate::{Error, Mac, Network, Result, nat};
use oxen_config::{AntiSpoof, VifSpec, Vlans};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long the kernel may take to make the device. Normally it takes milliseconds.
const DEVICE: Duration = Duration::from_secs(20);

/// Bridges come and go with their ports, so one thread at a time looks and acts.
static BRIDGES: Mutex<()> = Mutex::new(());

/// The plan of a card's port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub network: Network,
    /// The device's name as the kernel makes it.
    pub device: String,
    /// The device's final name.
    pub name: String,
    pub mac: Mac,
    pub mtu: Option<u32>,
    pub vlans: Option<Vlans>,
    pub guard: Option<Guard>,
    /// The addresses that the guest may use.
    pub addresses: Vec<IpAddr>,
}

/// The name of the device of card `index`.
#[must_use]
pub fn device(domain: u16, index: u32) -> String {
    format!("vif{domain}.{index}")
}

/// The bridge that a card will be on.
///
/// # Errors
/// `Error` if the kernel does not answer.
pub fn bridge(vif: &VifSpec, settings: &Settings) -> Result<String> {
    let mut links = Links::open().map_err(|error| Error::new("cannot ask the kernel", error))?;
    Ok(network(vif, settings, &mut links).bridge())
}

fn network(vif: &VifSpec, settings: &Settings, links: &mut Links) -> Network {
    Network::of(vif, settings, |name| {
        links.find(name).is_ok_and(|link| link.is_some())
    })
}

impl Port {
    /// Plans a card, and makes sure that its network exists: the NAT network is made, and an
    /// address on it is taken. [`unplug`] releases both.
    ///
    /// # Errors
    /// `Error` if there is no such bridge, if the configuration contradicts itself, or if the
    /// kernel refuses.
    pub fn plan(
        vif: &VifSpec,
        mac: Mac,
        domain: u16,
        index: u32,
        settings: &Settings,
    ) -> Result<Self> {
        let what = format!("cannot attach card {index} (mac {mac})");
        let mut links = Links::open().map_err(|error| Error::new(&what, error))?;
        let network = network(vif, settings, &mut links);
        let mut addresses = wanted(vif).map_err(|cause| Error::new(&what, cause))?;
        match &network {
            Network::Bridge(name) => {
                check_bridge(&mut links, name, vif).map_err(|error| Error {
                    what: what.clone(),
                    ..error
                })?;
            }
            Network::Private(_) => {}
            Network::Nat => {
                let one = addresses.iter().find_map(|address| match address {
                    IpAddr::V4(address) => Some(*address),
                    IpAddr::V6(_) => None,
                });
                let address = nat_address(mac, one, settings)?;
                if one.is_none() {
                    addresses.push(IpAddr::V4(address));
                }
            }
        }
        let guard = match vif.antispoof.unwrap_or_default() {
            AntiSpoof::No => None,
            AntiSpoof::Mac => Some(Guard {
                mac,
                addresses: None,
            }),
            AntiSpoof::Ip if addresses.is_empty() => {
                return Err(Error::new(what, "antispoof=ip is asked for, but no ip=")
                    .remedy("give the guest's addresses by ip=, or choose antispoof=mac"));
            }
            AntiSpoof::Ip => Some(Guard {
                mac,
                addresses: Some(addresses.clone()),
            }),
        };
        let device = device(domain, index);
        Ok(Self {
            network,
            name: vif.vifname.clone().unwrap_or_else(|| device.clone()),
            device,
            mac,
            mtu: vif.mtu,
            vlans: vif.vlan.clone(),
            guard,
            addresses,
        })
    }

    /// Waits for the device, and puts it on its network.
    ///
    /// # Errors
    /// `Error` if the network device does not appear, or the kernel refuses a step.
    pub fn plug(&self) -> Result<()> {
        let fail = |step: &str, error: io::Error| {
            let what = format!(
                "cannot attach {} to {}: {step}",
                self.name,
                self.network.bridge()
            );
            Error::new(what, error)
        };
        let mut links = Links::open().map_err(|error| fail("talking to the kernel", error))?;
        let link = match links.wait_for(&self.device, DEVICE) {
            Ok(link) => link,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let what = format!("cannot attach {}", self.device);
                return Err(Error::new(what, "the kernel makes no device for it")
                    .remedy("is its module xen-netback loaded? see dmesg"));
            }
            Err(error) => return Err(fail("looking for the device", error)),
        };
        let first = Change {
            name: (self.name != self.device).then_some(self.name.as_str()),
            mtu: self.mtu,
            ..Change::default()
        };
        links
            .change(link.index, &first)
            .map_err(|error| fail("setting its name and mtu", error))?;
        if let Some(guard) = &self.guard {
            Firewall::open()
                .and_then(|mut firewall| firewall.set_guard(&self.name, guard))
                .map_err(|error| fail("guarding it", error))?;
        }
        let _bridges = BRIDGES.lock().unwrap_or_else(PoisonError::into_inner);
        let bridge = self
            .bridge(&mut links)
            .map_err(|error| fail("finding the bridge", error))?;
        let join = Change {
            bridge: Some(bridge),
            ..Change::default()
        };
        links
            .change(link.index, &join)
            .map_err(|error| fail("joining the bridge", error))?;
        if let Some(vlans) = &self.vlans {
            links
                .set_vlans(link.index, vlans.untagged, &vlans.tagged)
                .map_err(|error| fail("setting its VLANs", error))?;
        }
        let up = Change {
            up: Some(true),
            ..Change::default()
        };
        links
            .change(link.index, &up)
            .map_err(|error| fail("starting it", error))
    }

    /// The index of the bridge, which is made if it belongs to the toolset.
    fn bridge(&self, links: &mut Links) -> io::Result<u32> {
        let name = self.network.bridge();
        let Network::Private(_) = self.network else {
            let link = links.find(&name)?;
            return link
                .map(|link| link.index)
                .ok_or_else(|| io::Error::other("it is gone"));
        };
        let bridge = links.make_bridge(&name, Mac::of_bridge(&name))?;
        // The host takes no part in what goes on there; without IPv6 there is nothing to turn off.
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
        if self.vlans.is_some() {
            links.filter_vlans(bridge.index)?;
        }
        let up = Change {
            up: Some(true),
            ..Change::default()
        };
        links.change(bridge.index, &up)?;
        Ok(bridge.index)
    }
}

/// Removes what a card had: its guard, its address on the NAT network, and a private network that
/// has no other card. `name` is the device's name; the device itself goes with its back end, and
/// may be gone already.
///
/// # Errors
/// `Error` of the kernel or the file system.
pub fn unplug(name: &str, bridge: &str, mac: Option<Mac>) -> Result<()> {
    let fail = |error: io::Error| Error::new(format!("cannot clean up after {name}"), error);
    firewall::remove_guard(name).map_err(fail)?;
    match Network::of_bridge(bridge) {
        Network::Bridge(_) => Ok(()),
        Network::Nat => mac.map_or(Ok(()), |mac| Leases::new(Path::new(DIRECTORY)).release(mac)),
        Network::Private(_) => {
            let _bridges = BRIDGES.lock().unwrap_or_else(PoisonError::into_inner);
            remove_if_empty(bridge, name).map_err(fail)
        }
    }
}

/// Releases what is held for cards that are gone. `macs` are the cards that exist.
///
/// # Errors
/// `Error` of the kernel or the file system.
pub fn sweep(macs: &[Mac]) -> Result<()> {
    let fail = |error: io::Error| Error::new("cannot clean up private networks", error);
    Leases::new(Path::new(DIRECTORY)).retain(macs)?;
    let _bridges = BRIDGES.lock().unwrap_or_else(PoisonError::into_inner);
    let names = Links::open().and_then(|mut links| links.names());
    for name in names.map_err(fail)? {
        if name.starts_with(PRIVATE_PREFIX) {
            remove_if_empty(&name, "").map_err(fail)?;
        }
    }
    Ok(())
}

fn remove_if_empty(bridge: &str, leaving: &str) -> io::Result<()> {
    let mut links = Links::open()?;
    let Some(link) = links.find(bridge)? else {
        return Ok(());
    };
    if links.ports(link.index)?.iter().all(|port| port == leaving) {
        links.remove(bridge)?;
    }
    Ok(())
}

/// Takes an address; makes the network first, since this fails more likely.
fn nat_address(mac: Mac, wanted: Option<Ipv4Addr>, settings: &Settings) -> Result<Ipv4Addr> {
    nat::ensure(settings.nat)?;
    Leases::new(Path::new(DIRECTORY)).assign(mac, wanted, settings.nat)
}

fn check_bridge(links: &mut Links, name: &str, vif: &VifSpec) -> Result<()> {
    let link = links.find(name).map_err(|error| Error::new("", error))?;
    match link.and_then(|link| link.vlan_filtering) {
        None => Err(Error::new("", format!("there is no bridge {name}")).remedy(
            "make it, or leave bridge= out for the NAT network (xm network-attach --help)",
        )),
        Some(false) if vif.vlan.is_some() => Err(Error::new(
            "",
            format!("bridge {name} does not tell VLANs apart"),
        )
        .remedy(format!("ip link set {name} type bridge vlan_filtering 1"))),
        Some(_) => Ok(()),
    }
}

/// The addresses of `ip=`; a length behind a slash is for others.
fn wanted(vif: &VifSpec) -> Result<Vec<IpAddr>, String> {
    let parse = |text: &String| {
        let address = text.split('/').next().unwrap_or_default();
        address
            .parse()
            .map_err(|_| format!("ip={text} is no address"))
    };
    vif.ip.iter().map(parse).collect()
}
