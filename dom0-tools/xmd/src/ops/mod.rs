//! The operations of the daemon on domains, for clients and by itself. Independent of threads and
//! sockets.

mod building;
mod ending;
mod erasing;
mod resize;
mod restarting;

use crate::log::Log;
use crate::manager::Manager;
use oxen_config::Uuid;
use oxen_devices::{Device, Spec};
use oxen_domain::lifecycle::{self, Listed};
use oxen_domain::world::DomId;
use oxen_domain::world::World;
use oxen_domain::{Error, Result, nodes};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use xmd_api::{Event, Op, Subject};

/// Everything an operation needs.
pub struct Context<'a> {
    pub world: World<'a>,
    pub manager: &'a Mutex<Manager>,
    /// Held while devices are made and while those of a domain that ends are removed, so that no
    /// device is made for a domain that is gone, and no image is given to two guests.
    pub devices: &'a Mutex<()>,
    pub log: &'a Log,
    pub cache: &'a oxen_domain::image::Cache,
    /// Sources of random bytes and of the time; a machine's, or a test's.
    pub random: fn() -> Result<[u8; 16]>,
    pub now: fn() -> u64,
    /// Makes a device from its description: [`Spec::device`] on a machine.
    pub device: fn(&Spec) -> Result<Box<dyn Device>>,
    /// Sends an event to all listeners.
    pub announce: &'a dyn Fn(Event),
}

impl Context<'_> {
    pub(crate) fn manager(&self) -> MutexGuard<'_, Manager> {
        // A panic in another thread cannot have left an entry half changed: entries are replaced
        // whole.
        self.manager.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out one operation of a client; the operation's own events go to `tell`.
    ///
    /// # Errors
    /// `Error` of the operation.
    pub fn perform(&mut self, op: Op, tell: &mut dyn FnMut(Event)) -> Result<serde_json::Value> {
        let value = match op {
            Op::Version => {
                serde_json::json!({ "version": env!("CARGO_PKG_VERSION"), "pid": std::process::id() })
            }
            Op::Create {
                config,
                paused,
                quiet: false,
            } => json(self.create(*config, paused, tell)?),
            Op::Create {
                config,
                paused,
                quiet: true,
            } => json(self.create(*config, paused, &mut without_progress(tell))?),
            Op::List => self.list(),
            Op::Config { domain } => self.config(&domain)?,
            Op::Shutdown { domain, request } => json(self.shutdown(&domain, request)?),
            Op::Destroy { domain } => json(self.destroy(&domain, tell)?),
            Op::Pause { domain } => {
                self.simple(&domain, "pause", |world, id| world.hypervisor.pause(id))?
            }
            Op::Unpause { domain } => {
                self.simple(&domain, "unpause", |world, id| world.hypervisor.unpause(id))?
            }
            Op::Resume { domain } => self.resume(&domain)?,
            Op::Rename { domain, name } => json(self.rename(&domain, &name)?),
            Op::Sysrq { domain, key } => json(self.sysrq(&domain, key)?),
            Op::Trigger {
                domain,
                trigger,
                vcpu,
            } => self.simple(&domain, "send a trigger to", |world, id| {
                world.hypervisor.trigger(id, trigger, vcpu)
            })?,
            Op::Attach { domain, device } => json(self.attach(&domain, &device, tell)?),
            Op::Detach {
                domain,
                kind,
                device,
                force,
            } => json(self.detach(&domain, kind, &device, force)?),
            Op::SetMemory { domain, mib, force } => self.set_memory(&domain, mib, force)?,
            Op::SetMaxMemory { domain, mib } => self.set_max_memory(&domain, mib)?,
            Op::SetVcpus { domain, count } => self.set_vcpus(&domain, count)?,
            Op::Pin {
                domain,
                vcpu,
                hard,
                soft,
            } => self.pin(&domain, vcpu, hard.as_ref(), soft.as_ref())?,
            Op::Media {
                domain,
                device,
                target,
            } => json(self.change_media(&domain, &device, target, tell)?),
            Op::Log { lines } => serde_json::json!({ "text": self.log.tail(lines) }),
            Op::Events => return Err(Error::new("events", "this is not a single operation")),
        };
        Ok(value)
    }

    fn shutdown(&mut self, wanted: &str, request: lifecycle::Request) -> Result<Subject> {
        let found = self.find(wanted)?;
        lifecycle::request(
            self.world.hypervisor,
            self.world.store,
            found.info.domain,
            request,
        )?;
        self.log
            .line(&format!("{wanted}: asked to {}", request.word()));
        Ok(subject(&found))
    }

    fn sysrq(&mut self, wanted: &str, key: char) -> Result<Subject> {
        let found = self.find(wanted)?;
        lifecycle::sysrq(self.world.store, found.info.domain, key)?;
        Ok(subject(&found))
    }

    fn resume(&mut self, wanted: &str) -> Result<serde_json::Value> {
        let found = self.find(wanted)?;
        let domain = found.info.domain;
        if found.info.shutdown() != Some(oxen_sys::hypercall::ShutdownReason::Suspend) {
            return Err(
                Error::new(format!("cannot resume {wanted}"), "it is not suspended")
                    .remedy("xm unpause lets a paused domain go on"),
            );
        }
        let resumed = self.world.hypervisor.resume(domain);
        resumed.map_err(|errno| Error::new(format!("cannot resume {wanted}"), errno))?;
        self.world.store.resume(domain)?;
        Ok(json(subject(&found)))
    }

    fn rename(&mut self, wanted: &str, name: &str) -> Result<Subject> {
        let found = self.find(wanted)?;
        let mut subject = subject(&found);
        oxen_config::check_name(name)
            .map_err(|cause| Error::new(format!("cannot rename {wanted}"), cause))?;
        let listed = self.listed()?;
        if listed
            .iter()
            .any(|domain| domain.name.as_deref() == Some(name))
        {
            return Err(Error::new(
                format!("cannot rename {wanted}"),
                format!("there is a domain called {name} already"),
            ));
        }
        let ours = self.manager().by_domain(subject.domain).is_some();
        if ours {
            self.manager().rename(subject.uuid, name)?;
        }
        let change = nodes::rename(subject.domain, subject.uuid, name);
        if let Err(error) = self.world.store.apply(&change) {
            if ours {
                self.manager().rename(subject.uuid, &subject.name)?;
            }
            return Err(error);
        }
        self.log
            .line(&format!("{}: renamed to {name}", subject.name));
        name.clone_into(&mut subject.name);
        Ok(subject)
    }

    fn simple(
        &mut self,
        wanted: &str,
        verb: &str,
        work: impl FnOnce(&World<'_>, DomId) -> oxen_sys::Result<()>,
    ) -> Result<serde_json::Value> {
        let found = self.find(wanted)?;
        let what = format!("cannot {verb} {wanted}");
        if found.info.domain == 0 {
            return Err(Error::new(
                what,
                "it is the privileged domain, where this runs",
            ));
        }
        work(&self.world, found.info.domain).map_err(|errno| Error::new(what, errno))?;
        Ok(json(subject(&found)))
    }

    fn list(&self) -> serde_json::Value {
        let manager = self.manager();
        let entries = manager.entries().map(|entry| {
            let mut value = serde_json::json!({
                "domain": entry.domain,
                "name": entry.config.name,
                "uuid": entry.uuid,
                "state": entry.state,
            });
            if let Some(cause) = manager.broken(entry.uuid) {
                value["broken"] = cause.as_str().into();
            }
            value
        });
        entries.collect()
    }

    fn config(&mut self, wanted: &str) -> Result<serde_json::Value> {
        let found = self.find(wanted)?;
        match self.manager().by_domain(found.info.domain) {
            Some(entry) => Ok(json(&entry.config)),
            None => Err(Error::new(
                format!("cannot tell the configuration of {wanted}"),
                "xmd did not create it",
            )),
        }
    }

    pub(crate) fn find(&mut self, wanted: &str) -> Result<Listed> {
        lifecycle::pick(self.listed()?, wanted)
    }

    /// All domains. The names of xmd's own come from its entries: reading each from the store would
    /// make every operation as long as there are domains.
    fn listed(&mut self) -> Result<Vec<Listed>> {
        let manager = self.manager;
        let manager = manager.lock().unwrap_or_else(PoisonError::into_inner);
        let own: BTreeMap<DomId, (Uuid, String)> = manager
            .entries()
            .filter_map(|entry| Some((entry.domain?, (entry.uuid, entry.config.name.clone()))))
            .collect();
        drop(manager);
        lifecycle::list_with(self.world.hypervisor, self.world.store, |info| {
            let (uuid, name) = own.get(&info.domain)?;
            (uuid.0 == info.handle).then(|| name.clone())
        })
    }
}

pub(crate) fn subject(found: &Listed) -> Subject {
    let name = found.name.clone().unwrap_or_else(|| "(null)".to_owned());
    Subject {
        domain: found.info.domain,
        name,
        uuid: found.uuid(),
    }
}

/// Drops progress events: each would wake the client, which costs two switches between processes.
fn without_progress(tell: &mut dyn FnMut(Event)) -> impl FnMut(Event) {
    move |event| match event {
        Event::Progress { .. } => {}
        other => tell(other),
    }
}

fn json(value: impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests;
