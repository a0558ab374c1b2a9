//! Devices that exist, read from their back ends' directories in the store.

use crate::kind::Kind;
use crate::nodes;
use crate::state::State;
use oxen_domain::world::{DomId, Store};
use oxen_domain::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One device of one guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub domain: DomId,
    pub kind: Kind,
    pub id: u32,
    /// The device's name in the guest: `xvda`.
    pub name: String,
    /// The nodes of the back end's directory. The toolset or dom0's kernel wrote them, never the
    /// guest.
    pub back: BTreeMap<String, String>,
    pub back_state: State,
    /// The state that the guest claims.
    pub front_state: State,
}

impl Held {
    /// The value of a node of the back end; empty if there is none.
    #[must_use]
    pub fn node(&self, key: &str) -> &str {
        self.back.get(key).map_or("", String::as_str)
    }

    /// The driver's directory in dom0's sysfs, which exists as long as the driver has the device.
    #[must_use]
    pub fn sysfs(&self) -> PathBuf {
        sysfs(self.domain, self.kind, self.id)
    }
}

pub(crate) fn sysfs(domain: DomId, kind: Kind, id: u32) -> PathBuf {
    format!("/sys/bus/xen-backend/devices/{}-{domain}-{id}", kind.name()).into()
}

/// A guest's devices of one kind, by number. Directories that dom0's driver left behind are no
/// devices ([`left_behind`]).
///
/// # Errors
/// `Error` of the store.
pub fn of_kind(store: &mut dyn Store, domain: DomId, kind: Kind) -> Result<Vec<Held>> {
    let mut all = Vec::new();
    for id in directories(store, domain, kind)? {
        all.extend(find(store, domain, kind, id)?);
    }
    Ok(all)
}

/// The numbers of back ends' directories without a device. dom0's driver writes one when the
/// toolset removes a device that the driver just begins to serve: its nodes come after the removal.
///
/// # Errors
/// `Error` of the store.
pub(crate) fn left_behind(store: &mut dyn Store, domain: DomId, kind: Kind) -> Result<Vec<u32>> {
    let mut left = Vec::new();
    for id in directories(store, domain, kind)? {
        if !is_device(store, domain, kind, id)? {
            left.push(id);
        }
    }
    Ok(left)
}

fn directories(store: &mut dyn Store, domain: DomId, kind: Kind) -> Result<Vec<u32>> {
    let names = store.list(&nodes::all_back(domain, kind))?;
    let mut ids: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Whether the toolset made that device: it alone writes the link to the front end.
fn is_device(store: &mut dyn Store, domain: DomId, kind: Kind, id: u32) -> Result<bool> {
    let back = nodes::back(domain, kind, id);
    Ok(store.read(&format!("{back}/frontend-id"))?.is_some())
}

/// All devices of a guest.
///
/// # Errors
/// `Error` of the store.
pub fn of_domain(store: &mut dyn Store, domain: DomId) -> Result<Vec<Held>> {
    let mut all = Vec::new();
    for kind in Kind::ALL {
        all.extend(of_kind(store, domain, kind)?);
    }
    Ok(all)
}

/// All devices of a kind, of all guests.
///
/// # Errors
/// `Error` of the store.
pub fn everywhere(store: &mut dyn Store, kind: Kind) -> Result<Vec<Held>> {
    let domains = store.list(&format!("/local/domain/0/backend/{}", kind.name()))?;
    let mut all = Vec::new();
    for domain in domains.iter().filter_map(|name| name.parse().ok()) {
        all.extend(of_kind(store, domain, kind)?);
    }
    Ok(all)
}

/// The device of that number, if it exists.
///
/// # Errors
/// `Error` of the store.
pub fn find(store: &mut dyn Store, domain: DomId, kind: Kind, id: u32) -> Result<Option<Held>> {
    if !is_device(store, domain, kind, id)? {
        return Ok(None);
    }
    one(store, domain, kind, id).map(Some)
}

/// The number of a device that a user names: by its name in the guest, its number, or a card's
/// address.
///
/// # Errors
/// `Error` that quotes `named` if it is no name of such a device or the guest has no card of that
/// address; else the store's error.
pub fn named(store: &mut dyn Store, domain: DomId, kind: Kind, named: &str) -> Result<u32> {
    let Some(mac) = kind.address(named) else {
        return kind.id(named);
    };
    let held = of_kind(store, domain, kind)?;
    let found = held.iter().find(|held| held.node("mac") == mac);
    found.map(|held| held.id).ok_or_else(|| {
        let what = format!("cannot find {named}");
        Error::new(
            what,
            format!("the guest has no {} of that address", kind.word()),
        )
        .remedy(format!("see xm {}-list", kind.command()))
    })
}

fn one(store: &mut dyn Store, domain: DomId, kind: Kind, id: u32) -> Result<Held> {
    let directory = nodes::back(domain, kind, id);
    let mut back = BTreeMap::new();
    for key in store.list(&directory)? {
        if let Some(value) = store.read(&format!("{directory}/{key}"))? {
            back.insert(key, value);
        }
    }
    let front = store.read(&format!("{}/state", nodes::front(domain, kind, id)))?;
    Ok(Held {
        domain,
        kind,
        id,
        name: kind.title(id),
        back_state: State::parse(back.get("state").map(String::as_str)),
        front_state: State::parse(front.as_deref()),
        back,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxen_domain::testing::Fake;
    use oxen_domain::world::Change;

    #[test]
    fn a_card_is_known_by_its_number_its_name_and_its_address() {
        let mut store = Fake::new(64);
        for (id, mac) in [(0, "00:16:3e:00:00:0a"), (3, "00:16:3e:00:00:0b")] {
            let write = |key: &str, value: &str| Change::Write {
                path: format!("/local/domain/0/backend/vif/7/{id}/{key}"),
                value: value.into(),
            };
            let changes = [write("mac", mac), write("frontend-id", "7")];
            store.apply(&changes).expect("the store");
        }
        let mut find = |text: &str| named(&mut store, 7, Kind::Vif, text);
        assert_eq!(find("3"), Ok(3));
        assert_eq!(find("eth3"), Ok(3));
        assert_eq!(find("00:16:3e:00:00:0b"), Ok(3));
        assert_eq!(find("00:16:3E:00:00:0A"), Ok(0));
        let error = find("00:16:3e:00:00:0c").expect_err("nobody").to_string();
        assert!(error.contains("no network card of that address"), "{error}");
        assert!(find("00:16").is_err());
        assert_eq!(named(&mut store, 7, Kind::Vbd, "xvda"), Ok(51712));
    }
}
