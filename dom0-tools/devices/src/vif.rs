//! Network cards, served by dom0's xen-netback (xen/io/netif.h).
//!
//! The driver makes a network device, `vifDOMAIN.NUMBER`; putting it on its network is all that is
//! to be done ([`oxen_net::port`]). The driver holds back the connection until `hotplug-status`
//! says so.

use crate::device::Device;
use crate::guest::Guest;
use crate::held::{self, Held};
use crate::kind::Kind;
use crate::nodes::Nodes;
use oxen_config::{DomainConfig, VifSpec};
use oxen_domain::nodes::home;
use oxen_domain::world::Store;
use oxen_domain::{Error, Result};
use oxen_net::Mac;
use oxen_net::network::{SETTINGS, Settings};
use oxen_net::port::{self, Port};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The largest number of cards of a guest.
pub const MAX: u32 = 8;
/// The hotplug script that other toolsets name. The driver needs a name there; no script is run.
const SCRIPT: &str = "/etc/xen/scripts/vif-bridge";

/// A card to be attached.
pub struct Card {
    spec: VifSpec,
    id: u32,
    mac: Mac,
    /// The port on the bridge, held until the store names it.
    port: Option<Port>,
}

impl Card {
    /// # Errors
    /// `Error` with the cause if the description is not complete, or asks for something that is
    /// not supported.
    pub fn new(spec: &VifSpec) -> Result<Self> {
        let fail = |cause: String| Err(Error::new("cannot attach a network card", cause));
        // [`complete`] and [`add`] have filled in both.
        let (Some(id), Some(mac)) = (spec.devid, spec.mac) else {
            return fail("it has no number or no MAC address yet".to_owned());
        };
        if let Some(backend) = spec.backend.as_ref().filter(|name| !is_dom0(name)) {
            return fail(format!("backend={backend}: only dom0 can serve cards yet"));
        }
        if let Some(device) = &spec.gatewaydev {
            return fail(format!(
                "gatewaydev={device}: routed networks are not made, use a bridge or the NAT network"
            ));
        }
        Ok(Self {
            spec: spec.clone(),
            id,
            mac: Mac(mac),
            port: None,
        })
    }

    /// Checks that no other card on the bridge has the same MAC address: each would get the other's
    /// packets.
    fn check_unique(&self, store: &mut dyn Store, bridge: &str) -> Result<()> {
        for other in held::everywhere(store, Kind::Vif)? {
            if other.node("mac") == self.mac.to_string() && other.node("bridge") == bridge {
                let name = store.read(&format!("{}/name", home(other.domain)))?;
                let name = name.unwrap_or_else(|| format!("domain {}", other.domain));
                return Err(Error::new(
                    format!("cannot attach a card with mac {}", self.mac),
                    format!("{name} has that address on {bridge}"),
                )
                .remedy("choose another mac=, or leave it out"));
            }
        }
        Ok(())
    }
}

fn is_dom0(name: &str) -> bool {
    matches!(name, "0" | "Domain-0")
}

impl Device for Card {
    fn kind(&self) -> Kind {
        Kind::Vif
    }

    fn id(&self) -> u32 {
        self.id
    }

    fn claim(&mut self, guest: &Guest<'_>, store: &mut dyn Store) -> Result<Nodes> {
        let settings = Settings::read(Path::new(SETTINGS))?;
        self.check_unique(store, &port::bridge(&self.spec, &settings)?)?;
        let plan = Port::plan(&self.spec, self.mac, guest.domain, self.id, &settings);
        let port = plan?;
        let text = |text: &str| text.to_owned();
        let words: Vec<String> = port.addresses.iter().map(IpAddr::to_string).collect();
        let mut back = vec![
            ("handle", self.id.to_string()),
            ("mac", self.mac.to_string()),
            ("bridge", port.network.bridge()),
            ("type", text("vif")),
            ("script", self.spec.script.clone().unwrap_or(text(SCRIPT))),
            ("vifname", port.name.clone()),
            ("hotplug-status", String::new()),
        ];
        if !words.is_empty() {
            back.push(("ip", words.join(" ")));
        }
        if let Some(rate) = self.spec.rate {
            back.push(("rate", format!("{},{}", rate.bytes, rate.interval_us)));
        }
        let mut front = vec![
            ("handle", self.id.to_string()),
            ("mac", self.mac.to_string()),
        ];
        if let Some(mtu) = self.spec.mtu {
            back.push(("mtu", mtu.to_string()));
            front.push(("mtu", mtu.to_string()));
        }
        if let Some(trusted) = self.spec.trusted {
            front.push(("trusted", u8::from(trusted).to_string()));
        }
        self.port = Some(port);
        Ok(Nodes {
            front,
            back,
            warnings: Vec::new(),
        })
    }

    fn plug(&mut self, _: &Guest<'_>) -> Result<Vec<(&'static str, String)>> {
        if let Some(port) = &self.port {
            port.plug()?;
        }
        Ok(vec![("hotplug-status", "connected".to_owned())])
    }

    fn is_plugged(&mut self, _: &Guest<'_>) -> bool {
        let plugged = self.port.as_ref().is_none_or(|port| is_port(&port.name));
        if plugged {
            // From here on the nodes say what is to be released.
            self.port = None;
        }
        plugged
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        if let Some(port) = &self.port {
            // The failure of the attach is reported already; the next start of xmd sweeps what is
            // left.
            let _ = port::unplug(&port.name, &port.network.bridge(), Some(self.mac));
        }
    }
}

/// Whether a network device is a port of a bridge.
fn is_port(name: &str) -> bool {
    PathBuf::from(format!("/sys/class/net/{name}/brport")).exists()
}

pub(crate) fn is_plugged(held: &Held) -> bool {
    is_port(held.node("vifname"))
}

/// Removes what the port had on its network. The network device itself went with its driver.
pub(crate) fn release(held: &Held) -> Result<()> {
    let mac = held.node("mac").parse().ok();
    port::unplug(held.node("vifname"), held.node("bridge"), mac)
}

/// Gives each card of a configuration a number, and a MAC address that is the same at each start of
/// the guest, where the configuration names none.
///
/// # Errors
/// `Error` with the limit if there are too many cards, or with the number if two cards have the
/// same.
pub fn complete(config: &mut DomainConfig) -> Result<()> {
    // Cards whose number is given come first, so that no other card takes it.
    let mut cards = core::mem::take(&mut config.vifs);
    let (said, unsaid): (Vec<_>, Vec<_>) = cards.iter_mut().partition(|vif| vif.devid.is_some());
    for vif in said.into_iter().chain(unsaid) {
        add(config, vif)?;
        config.vifs.push(vif.clone());
    }
    config.vifs = cards;
    Ok(())
}

/// Gives one more card of a configuration its number and MAC address.
///
/// # Errors
/// `Error` with the limit if there are too many cards, or with the number if another card has it.
pub fn add(config: &DomainConfig, vif: &mut VifSpec) -> Result<()> {
    let fail = |cause: String| {
        let what = format!("cannot give {} a network card", config.name);
        Err(Error::new(what, cause))
    };
    let taken = |id: u32| config.vifs.iter().any(|other| other.devid == Some(id));
    let id = match vif.devid {
        Some(id) if taken(id) => return fail(format!("it has one of number {id} already")),
        Some(id) => id,
        None => match (0..MAX).find(|id| !taken(*id)) {
            Some(id) => id,
            None => return fail(format!("it has {MAX} already, and more it cannot have")),
        },
    };
    if config.vifs.len() >= MAX as usize {
        return fail(format!("it has {MAX} already, and more it cannot have"));
    }
    vif.devid = Some(id);
    if vif.mac.is_none() {
        // A UUID that the file does not name is different at each start, so the name is the seed
        // then.
        let seed = match config.uuid {
            Some(uuid) => uuid.to_string(),
            None => config.name.clone(),
        };
        vif.mac = Some(Mac::of_guest(&seed, id).0);
    }
    Ok(())
}

/// Removes the ports of a daemon that was killed before it wrote them to the store.
pub(crate) fn sweep(all: &[Held]) -> Result<()> {
    let macs: Vec<Mac> = all
        .iter()
        .filter_map(|held| held.node("mac").parse().ok())
        .collect();
    port::sweep(&macs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(vifs: &[&str]) -> DomainConfig {
        let text = format!(
            "name = 'demo'\ntype = 'pvh'\nkernel = '/boot/vmlinuz'\nmemory = 64\nvif = [{}]\n",
            vifs.iter()
                .map(|vif| format!("'{vif}',"))
                .collect::<String>()
        );
        oxen_config::parse("demo.cfg", text.as_bytes(), &[])
            .expect("a configuration")
            .config
    }

    #[test]
    fn numbers_and_addresses() {
        let mut demo = config(&["", "devid=0,mac=00:16:3e:00:00:01", "bridge=br1"]);
        complete(&mut demo).expect("three cards");
        let ids: Vec<_> = demo.vifs.iter().map(|vif| vif.devid).collect();
        assert_eq!(ids, [Some(1), Some(0), Some(2)]);
        assert_eq!(demo.vifs[1].mac, Some([0, 0x16, 0x3e, 0, 0, 1]));
        assert_eq!(demo.vifs[0].mac, Some(Mac::of_guest("demo", 1).0));
        let mut again = config(&["", "devid=0,mac=00:16:3e:00:00:01", "bridge=br1"]);
        complete(&mut again).expect("three cards");
        assert_eq!(again.vifs, demo.vifs);
        complete(&mut again).expect("nothing to do");
        assert_eq!(again.vifs, demo.vifs);
    }

    #[test]
    fn too_many_or_twice() {
        assert!(complete(&mut config(&["devid=1", "devid=1"])).is_err());
        assert!(complete(&mut config(&[""; 8])).is_ok());
        let error = complete(&mut config(&[""; 9]))
            .expect_err("nine")
            .to_string();
        assert!(error.contains("8 already"), "{error}");
    }
}
