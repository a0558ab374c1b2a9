//! Taking domains down without a trace. Every step can be repeated: the rest that a failure left is
//! found by the domain's UUID, never by the number alone, which may be another domain's by then.

use super::Context;
use crate::journal::Entry;
use oxen_config::Uuid;
use oxen_devices::{bus, held};
use oxen_domain::end::{self, Erased};
use oxen_domain::world::{Change, DomId};
use oxen_domain::{Error, Result, nodes};
use oxen_sys::hypercall::DomainInfo;
use std::sync::PoisonError;

/// The domain of an entry among those that exist.
pub(super) fn find(alive: &[DomainInfo], uuid: Uuid) -> Option<&DomainInfo> {
    alive
        .iter()
        .find(|info| info.handle == uuid.0 && !info.dying())
}

impl Context<'_> {
    pub(super) fn domains(&self) -> Result<Vec<DomainInfo>> {
        let domains = self.world.hypervisor.domains();
        domains.map_err(|errno| Error::new("cannot list domains", errno))
    }

    /// Takes down the domain of an entry. Returns a warning for the user if the domain is dead but
    /// cannot go away yet.
    pub(super) fn erase_entry(&mut self, uuid: Uuid) -> Result<Option<String>> {
        let Some(entry) = self.manager().entry(uuid).cloned() else {
            return Ok(None);
        };
        let alive = self.domains()?;
        let dying = |info: &&DomainInfo| info.handle == uuid.0 && Some(info.domain) == entry.domain;
        let found = find(&alive, uuid).or_else(|| alive.iter().find(dying));
        match found {
            Some(info) => self.erase(info.domain, Some(uuid)),
            None => self.erase_nodes(&entry, &alive).map(|()| None),
        }
    }

    /// Takes a domain down.
    pub(super) fn erase(&mut self, domain: DomId, uuid: Option<Uuid>) -> Result<Option<String>> {
        let held = {
            let devices = self.devices;
            let _alone = devices.lock().unwrap_or_else(PoisonError::into_inner);
            let held = held::of_domain(self.world.store, domain)?;
            end::take_down(&mut self.world, domain, uuid)?;
            held
        };
        // A device that cannot be released is no reason to keep the domain.
        if let Err(error) = bus::release(self.world.store, &held) {
            self.log.line(&error.to_string());
        }
        if end::wait_until_gone(&self.world, domain)? == Erased::Gone {
            return Ok(None);
        }
        let text = format!(
            "domain {domain} is dead, but not gone: another domain still holds pages of it \
             (its devices' backends, xenconsoled or xenstored must let go)"
        );
        self.log.line(&text);
        Ok(Some(text))
    }

    /// Removes the nodes of a domain that is gone: those of its number, unless another domain has
    /// that number, and those of its UUID.
    fn erase_nodes(&mut self, entry: &Entry, alive: &[DomainInfo]) -> Result<()> {
        let vm = nodes::vm(entry.uuid);
        let is_free = |domain: &DomId| alive.iter().all(|info| info.domain != *domain);
        if let Some(domain) = entry.domain.filter(is_free) {
            let path = format!("{}/vm", nodes::home(domain));
            if self.world.store.read(&path)?.as_ref() == Some(&vm) {
                return self.remove_nodes(domain, Some(entry.uuid));
            }
        }
        self.world.store.apply(&[Change::Remove { path: vm }])
    }

    fn remove_nodes(&mut self, domain: DomId, uuid: Option<Uuid>) -> Result<()> {
        let devices = self.devices;
        let _alone = devices.lock().unwrap_or_else(PoisonError::into_inner);
        let held = held::of_domain(self.world.store, domain)?;
        self.world.store.apply(&nodes::remove(domain, uuid))?;
        if let Err(error) = bus::release(self.world.store, &held) {
            self.log.line(&error.to_string());
        }
        Ok(())
    }

    /// Removes the rest of domains that are gone, and of devices that never came to be.
    pub(crate) fn sweep(&mut self) -> Result<()> {
        for (domain, uuid) in end::orphans(self.world.hypervisor, self.world.store)? {
            let entry = uuid.and_then(|uuid| self.manager().entry(uuid).cloned());
            if entry.is_some_and(|entry| entry.domain == Some(domain)) {
                // The domain's end is not finished yet, and removes them.
                continue;
            }
            self.log.line(&format!(
                "domain {domain} is gone and its nodes are not: they are removed"
            ));
            // The domain's successor may have its UUID.
            let ours = uuid.filter(|uuid| self.manager().entry(*uuid).is_none());
            self.remove_nodes(domain, ours)?;
        }
        let devices = self.devices;
        let _alone = devices.lock().unwrap_or_else(PoisonError::into_inner);
        bus::sweep(self.world.store)
    }
}
