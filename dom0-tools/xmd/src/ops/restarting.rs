//! Domains that are built again after their end, and domains that another daemon left.

use super::Context;
use super::building::Origin;
use super::erasing::find;
use crate::journal::{Entry, State};
use crate::manager::Hold;
use oxen_config::Uuid;
use oxen_domain::end::{Verdict, verdict};
use oxen_domain::world::{Change, DomId};
use oxen_domain::{Error, Result, nodes};
use oxen_sys::hypercall::DomainInfo;
use xmd_api::Event;

impl Context<'_> {
    /// Takes down a domain that has ended, or keeps its rest under another name, and builds the
    /// domain again.
    pub(super) fn restart(&mut self, entry: &Entry, alive: &[DomainInfo]) -> Result<()> {
        let uuid = entry.uuid;
        let found = find(alive, uuid);
        let reason = found.and_then(DomainInfo::shutdown);
        let wanted = reason.map(|reason| verdict(&entry.config.actions, reason).0);
        match found {
            Some(info) if wanted == Some(Verdict::RenameRestart) => {
                self.keep_aside(entry, info.domain)?;
            }
            _ => {
                self.name_kept(entry)?;
                self.erase_entry(uuid)?;
            }
        }
        self.manager().rebuild(uuid)?;
        if let Some(domain) = entry
            .domain
            .filter(|_| wanted != Some(Verdict::RenameRestart))
        {
            let name = entry.config.name.clone();
            (self.announce)(Event::Gone { domain, name });
        }
        self.build_entry(uuid, false, Origin::Restart, &mut |_| {})
            .map(drop)
    }

    /// Keeps the rest of a domain for examination, under another name and UUID. The successor gets
    /// the old name and UUID, the disks and the addresses.
    fn keep_aside(&mut self, entry: &Entry, domain: DomId) -> Result<()> {
        let preserved = self.manager().preserved(domain).map(|kept| kept.uuid);
        let kept = match preserved {
            Some(uuid) => uuid,
            None => Uuid::from_random((self.random)()?),
        };
        self.detach_all(domain)?;
        if preserved.is_none() {
            let name = self.free_name(entry)?;
            self.manager().preserve(entry.uuid, kept, &name)?;
        }
        let _hold = Hold::of(self.manager, kept);
        let renamed = self.world.hypervisor.set_handle(domain, kept.0);
        if let Err(errno) = renamed {
            self.manager().forget(kept)?;
            let what = format!("cannot keep {}", entry.config.name);
            return Err(Error::new(what, errno));
        }
        self.name_kept(entry)
    }

    fn free_name(&mut self, entry: &Entry) -> Result<String> {
        let listed = self.listed()?;
        let name = &entry.config.name;
        let free = nodes::free_name(name, |name| {
            let mut names = listed.iter().map(|domain| domain.name.as_deref());
            self.manager().has_name(name) || names.any(|other| other == Some(name))
        });
        free.ok_or_else(|| Error::new(format!("cannot keep {name}"), "no name is free"))
    }

    /// Makes sure that the store has the new name of a domain that is kept.
    fn name_kept(&mut self, entry: &Entry) -> Result<()> {
        let Some(domain) = entry.domain else {
            return Ok(());
        };
        let kept = self.manager().preserved(domain).cloned();
        kept.map_or(Ok(()), |kept| self.name_nodes(&kept, domain))
    }

    fn name_nodes(&mut self, kept: &Entry, domain: DomId) -> Result<()> {
        let path = format!("{}/vm", nodes::home(domain));
        let vm = self.world.store.read(&path)?;
        if vm == Some(nodes::vm(kept.uuid)) {
            return Ok(());
        }
        let old = vm.as_deref().and_then(|vm| vm.rsplit('/').next());
        let old = old.and_then(|uuid| uuid.parse().ok()).unwrap_or(kept.uuid);
        let mut changes = nodes::preserve(domain, old, kept.uuid, &kept.config.name);
        let successor = self.manager().entry(old).and_then(|entry| entry.domain);
        if old == kept.uuid || successor.is_some_and(|other| other != domain) {
            // The old one's nodes are another domain's, or these.
            let path = nodes::vm(old);
            changes.retain(|change| *change != Change::Remove { path: path.clone() });
        }
        self.world.store.apply(&changes)
    }

    /// Adopts a domain that runs or is kept: changes of its devices that were under way are
    /// finished or undone.
    pub(super) fn adopt(&mut self, entry: &Entry, domain: DomId) -> Result<()> {
        if entry.domain != Some(domain) {
            self.manager().born(entry.uuid, domain)?;
        }
        if entry.state == State::Kept {
            self.name_nodes(entry, domain)?;
        }
        self.settle_devices(entry, domain)
    }

    /// Finishes a restart that a kill of the daemon interrupted; the entry has been claimed for
    /// this.
    ///
    /// # Errors
    /// `Error` if the domain could not be built; the restart is repeated later.
    pub fn restart_unfinished(&mut self, uuid: Uuid) -> Result<()> {
        let _hold = Hold::of(self.manager, uuid);
        self.settle(uuid)
    }
}
