//! Introduction and end of domains.

use std::sync::Arc;

use guest_pv_abi::DOMID_FIRST_RESERVED;

use super::connection::Connection;
use super::requests::{decimal, exactly};
use super::{ConnId, Platform, Ring, Server};
use crate::error::StoreError;
use crate::outcome::{Done, Entry, Event};
use crate::path::Path;
use crate::perms::{DomId, Perms};
use crate::record::Record;
use crate::watch::Special;
use crate::wire::strings;

type Result<T> = core::result::Result<T, StoreError>;

impl Server {
    /// A domain whose ring is open.
    pub(super) fn introduced(&self, domain: DomId) -> Result<DomId> {
        if self.connections.contains_key(&ConnId::Domain(domain)) {
            Ok(domain)
        } else {
            Err(StoreError::NoEnt)
        }
    }

    /// Opens a ring; the domain, if it was not known before.
    pub(super) fn introduce(
        &mut self,
        payload: &[u8],
        platform: &mut dyn Platform,
    ) -> Result<Option<DomId>> {
        let words = strings(payload)?;
        let [domain, gfn, port, ..] = words[..] else {
            return Err(StoreError::Inval);
        };
        let (domain, port): (DomId, u32) = (decimal(domain)?, decimal(port)?);
        // Frames are in signed decimal, for history's sake.
        let gfn = core::str::from_utf8(gfn).map_err(|_| StoreError::Inval)?;
        let gfn: i64 = gfn.parse().map_err(|_| StoreError::Inval)?;
        if domain == 0 || domain >= DOMID_FIRST_RESERVED || port == 0 {
            return Err(StoreError::Inval);
        }
        let new = self.introduced(domain).is_err();
        self.connect(domain, gfn.cast_unsigned(), port, platform)?;
        Ok(new.then_some(domain))
    }

    /// Opens the ring of a domain, or opens it again. dom0's own comes this way too.
    pub fn connect(
        &mut self,
        domain: DomId,
        gfn: u64,
        port: u32,
        platform: &mut dyn Platform,
    ) -> Result<()> {
        // dom0's kernel may have sent requests before this daemon started.
        let indices = platform.connect(domain, gfn, port, domain != 0)?;
        let ring = Ring {
            gfn,
            port,
            indices,
            partial: Vec::new(),
            shutdown_told: false,
        };
        let id = ConnId::Domain(domain);
        self.drop_connection(id);
        self.connections
            .insert(id, Connection::new(domain, Some(ring)));
        let (consumed, produced) = (indices.consumed, indices.produced);
        self.records.push(Record::Introduce {
            domain,
            gfn,
            port,
            consumed,
            produced,
        });
        Ok(())
    }

    pub(super) fn resume(&mut self, domain: DomId) -> Result<()> {
        self.set_shutdown_told(domain, false)
    }

    pub(super) fn set_target(&mut self, payload: &[u8]) -> Result<()> {
        let [domain, target] = exactly(payload)?;
        let (domain, target) = (
            self.introduced(decimal(domain)?)?,
            self.introduced(decimal(target)?)?,
        );
        if let Some(connection) = self.connections.get_mut(&ConnId::Domain(domain)) {
            connection.caller.target = Some(target);
        }
        self.records.push(Record::Target {
            domain,
            target: Some(target),
        });
        Ok(())
    }

    /// Reports that a domain shut down: once, until a resume.
    pub fn domain_shut_down(&mut self, domain: DomId) {
        if self.ring(domain).is_some_and(|r| !r.shutdown_told)
            && self.set_shutdown_told(domain, true).is_ok()
        {
            self.tell_special(Special::Release, domain);
        }
    }

    fn set_shutdown_told(&mut self, domain: DomId, told: bool) -> Result<()> {
        let connection = self
            .connections
            .get_mut(&ConnId::Domain(domain))
            .ok_or(StoreError::NoEnt)?;
        connection
            .ring
            .as_mut()
            .ok_or(StoreError::NoEnt)?
            .shutdown_told = told;
        self.records.push(Record::ShutdownTold { domain, told });
        Ok(())
    }

    /// Forgets a domain that is gone, or that dom0 releases: its ring, its nodes and its rights on
    /// other nodes, so that the next domain of that number inherits nothing.
    pub fn forget_domain(&mut self, domain: DomId, platform: &mut dyn Platform) {
        if domain == 0 || !self.drop_connection(ConnId::Domain(domain)) {
            return;
        }
        platform.disconnect(domain);
        self.records.push(Record::Release { domain });
        for (id, connection) in &mut self.connections {
            if connection.caller.target == Some(domain) {
                connection.caller.target = None;
                if let ConnId::Domain(domain) = *id {
                    self.records.push(Record::Target {
                        domain,
                        target: None,
                    });
                }
            }
        }
        let done = self.remove_traces(domain);
        self.publish(&done);
        self.tell_special(Special::Release, domain);
    }

    fn remove_traces(&mut self, domain: DomId) -> Done {
        let mut done = Done::default();
        // As a rule the toolset has removed them all, and no walk over all nodes is needed.
        if !self.tree.names(domain) {
            return done;
        }
        let about = |perms: &Perms| perms.iter().any(|perm| perm.domain == domain);
        let found = self.tree.root().find(&Path::root(), &about).into_iter();
        let found: Vec<(Path, Arc<Perms>)> = found
            .map(|(path, node)| (path, Arc::clone(&node.perms)))
            .collect();
        for (path, old) in found {
            done.nodes = done.nodes.saturating_add(1);
            if old.owner() == domain {
                // Where its parent was the domain's too, it is gone already.
                if let Some(gone) = self.tree.remove(&path) {
                    done.journal.push(Entry::Gone(path.clone()));
                    done.events.push(Event::Removed(path, gone));
                }
            } else {
                let mut perms = (*old).clone();
                perms.forget(domain);
                if self.tree.set_perms(&path, perms) {
                    done.journal.push(Entry::Put(path.clone()));
                    done.events.push(Event::Changed(path, Some(old)));
                }
            }
        }
        done
    }
}
