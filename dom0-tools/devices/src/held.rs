//! Devices that are there, as their back ends' directories tell.

use crate::kind::Kind;
use crate::nodes;
use crate::state::State;
use oxen_domain::Result;
use oxen_domain::ports::{DomId, Store};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One device of one guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub domain: DomId,
    pub kind: Kind,
    pub id: u32,
    /// The name that a guest gives it: `xvda`.
    pub name: String,
    /// What the back end's directory holds. All of it is ours or our kernel's, nothing the guest's.
    pub back: BTreeMap<String, String>,
    pub back_state: State,
    /// What the guest claims.
    pub front_state: State,
}

impl Held {
    /// A node of the back end.
    #[must_use]
    pub fn node(&self, key: &str) -> &str {
        self.back.get(key).map_or("", String::as_str)
    }

    /// Whether dom0's driver has all that it needs.
    #[must_use]
    pub fn is_plugged(&self) -> bool {
        self.kind.is_plugged(self)
    }

    /// The driver's own directory in dom0's sysfs; there as long as the driver has the device.
    #[must_use]
    pub fn sysfs(&self) -> PathBuf {
        sysfs(self.domain, self.kind, self.id)
    }
}

pub(crate) fn sysfs(domain: DomId, kind: Kind, id: u32) -> PathBuf {
    format!("/sys/bus/xen-backend/devices/{}-{domain}-{id}", kind.name()).into()
}

/// A guest's devices of one kind, by number.
///
/// # Errors
/// The store cannot be asked.
pub fn of_kind(store: &mut dyn Store, domain: DomId, kind: Kind) -> Result<Vec<Held>> {
    let mut ids: Vec<u32> = store
        .list(&nodes::all_back(domain, kind))?
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    ids.sort_unstable();
    ids.into_iter()
        .map(|id| one(store, domain, kind, id))
        .collect()
}

/// All devices of a guest.
///
/// # Errors
/// The store cannot be asked.
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
/// The store cannot be asked.
pub fn everywhere(store: &mut dyn Store, kind: Kind) -> Result<Vec<Held>> {
    let domains = store.list(&format!("/local/domain/0/backend/{}", kind.name()))?;
    let mut all = Vec::new();
    for domain in domains.iter().filter_map(|name| name.parse().ok()) {
        all.extend(of_kind(store, domain, kind)?);
    }
    Ok(all)
}

/// The device of that number, if it is there.
///
/// # Errors
/// The store cannot be asked.
pub fn find(store: &mut dyn Store, domain: DomId, kind: Kind, id: u32) -> Result<Option<Held>> {
    let back = nodes::back(domain, kind, id);
    if store.read(&format!("{back}/frontend-id"))?.is_none() {
        return Ok(None);
    }
    one(store, domain, kind, id).map(Some)
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
