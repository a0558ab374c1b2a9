//! What the daemon does with domains, for clients and by itself. Independent of threads and sockets.

mod ending;
mod resize;

use crate::api::{Event, Op, Subject};
use crate::bootloader;
use crate::journal::State;
use crate::log::Log;
use crate::manager::{End, Manager};
use oxen_config::{DomainConfig, Uuid};
use oxen_devices::{bus, held};
use oxen_domain::build::{self, Order, World};
use oxen_domain::end::{self, Erased, Verdict, reason_word};
use oxen_domain::lifecycle::{self, Listed};
use oxen_domain::ports::DomId;
use oxen_domain::{Error, Result, nodes};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Everything an operation needs.
pub struct Context<'a> {
    pub world: World<'a>,
    pub manager: &'a Mutex<Manager>,
    /// Held while devices are made and while those of a domain that ends are removed, so that none
    /// is made for a domain that is no more, and one image is not given out twice.
    pub devices: &'a Mutex<()>,
    pub log: &'a Log,
    pub cache: &'a oxen_domain::image::Cache,
    /// What the machine provides: random bytes and the time.
    pub random: fn() -> Result<[u8; 16]>,
    pub now: fn() -> u64,
    /// For all who listen.
    pub announce: &'a dyn Fn(Event),
}

impl Context<'_> {
    pub(crate) fn manager(&self) -> MutexGuard<'_, Manager> {
        // A panic elsewhere cannot have left an entry half changed: they are replaced whole.
        self.manager.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does one operation of a client; events of its own go to `tell`.
    ///
    /// # Errors
    /// Its failure, in one line.
    pub fn perform(&mut self, op: Op, tell: &mut dyn FnMut(Event)) -> Result<serde_json::Value> {
        let value = match op {
            Op::Version => {
                serde_json::json!({ "version": env!("CARGO_PKG_VERSION"), "pid": std::process::id() })
            }
            Op::Create {
                config,
                paused,
                quiet,
            } => {
                // Each event wakes the client, and makes two switches between processes.
                let mut tell = |event| match event {
                    Event::Progress { .. } if quiet => {}
                    other => tell(other),
                };
                json(self.create(*config, paused, &mut tell)?)
            }
            Op::List => self.list(),
            Op::Config { domain } => self.config(&domain)?,
            Op::Shutdown { domain, request } => {
                let found = self.find(&domain)?;
                lifecycle::request(
                    self.world.hypervisor,
                    self.world.store,
                    found.info.domain,
                    request,
                )?;
                self.log
                    .line(&format!("{domain}: asked to {}", request.word()));
                json(subject(&found))
            }
            Op::Destroy { domain } => json(self.destroy(&domain, tell)?),
            Op::Pause { domain } => {
                self.simple(&domain, "pause", |world, id| world.hypervisor.pause(id))?
            }
            Op::Unpause { domain } => {
                self.simple(&domain, "unpause", |world, id| world.hypervisor.unpause(id))?
            }
            Op::Resume { domain } => self.resume(&domain)?,
            Op::Rename { domain, name } => json(self.rename(&domain, &name)?),
            Op::Sysrq { domain, key } => {
                let found = self.find(&domain)?;
                lifecycle::sysrq(self.world.store, found.info.domain, key)?;
                json(subject(&found))
            }
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
            Op::SetMemory { domain, mib } => self.set_memory(&domain, mib)?,
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

    /// Builds a domain and lets it run.
    ///
    /// # Errors
    /// Nothing is left of it.
    pub fn create(
        &mut self,
        mut config: DomainConfig,
        paused: bool,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Subject> {
        config
            .check()
            .map_err(|cause| Error::new(format!("cannot create {}", config.name), cause))?;
        oxen_devices::vbd::room(&config, 0)?;
        oxen_devices::vif::complete(&mut config)?;
        let uuid = match config.uuid {
            Some(uuid) => uuid,
            None => Uuid::from_random((self.random)()?),
        };
        config.uuid = Some(uuid);
        let name = config.name.clone();
        self.await_end(&name)?;
        // Domains that others made have names too.
        let listed = self.listed()?;
        if listed
            .iter()
            .filter(|domain| !domain.info.dying())
            .any(|domain| domain.name.as_deref() == Some(&name) || domain.uuid() == uuid)
        {
            return Err(Error::new(
                format!("cannot create {name}"),
                "there is a domain of that name or uuid already",
            )
            .remedy("choose another name= or uuid=, or end that one (xm list)"));
        }
        self.manager().reserve(config, uuid)?;
        self.build(uuid, paused, tell)
    }

    /// Builds a domain whose entry says so. A failure ends the entry too.
    fn build(&mut self, uuid: Uuid, paused: bool, tell: &mut dyn FnMut(Event)) -> Result<Subject> {
        let entry = self
            .manager()
            .entries()
            .find(|entry| entry.uuid == uuid)
            .cloned();
        let entry =
            entry.ok_or_else(|| Error::new("cannot build a domain", "its entry is gone"))?;
        let name = entry.config.name.clone();
        self.log.line(&format!("{name}: building, uuid {uuid}"));
        match self.build_and_start(uuid, &entry.config, paused, tell) {
            Ok(domain) => {
                self.log.line(&format!(
                    "{name}: runs as domain {domain}{}",
                    if paused { ", paused" } else { "" }
                ));
                (self.announce)(Event::Started {
                    domain,
                    name: name.clone(),
                });
                Ok(Subject { domain, name, uuid })
            }
            Err(error) => {
                self.log.line(&format!("{name}: {error}"));
                self.manager().forget(uuid)?;
                Err(error)
            }
        }
    }

    fn build_and_start(
        &mut self,
        uuid: Uuid,
        config: &DomainConfig,
        paused: bool,
        tell: &mut dyn FnMut(Event),
    ) -> Result<DomId> {
        tell(Event::Progress {
            step: build::Step::ReadingKernel,
        });
        build::check_memory(self.world.hypervisor, config)?;
        let booted = bootloader::load(config, &mut |text| {
            self.log.line(&format!("{}: {text}", config.name));
        })?;
        let (config, images) = match booted {
            Some(booted) => (&booted.config.clone(), booted.images),
            None => (config, build::read_images(config, self.cache)?),
        };
        let order = Order {
            config,
            uuid,
            now: (self.now)(),
        };
        let manager = self.manager;
        let lock = || manager.lock().unwrap_or_else(PoisonError::into_inner);
        let log = self.log;
        let mut progress = |step| {
            log.line(&format!("{}: {step:?}", config.name));
            tell(Event::Progress { step });
        };
        let domain = build::build(
            &mut self.world,
            &order,
            &images,
            &mut progress,
            &mut |domain| lock().born(uuid, domain),
        )?;
        // They are in the guest's memory now, and its devices may take their time.
        drop(images);
        let started = self
            .attach_all(uuid, config, domain)
            .and_then(|()| self.start(uuid, domain, paused));
        if let Err(error) = started {
            self.erase(domain, uuid)?;
            return Err(error);
        }
        progress(build::Step::Started);
        Ok(domain)
    }

    fn start(&mut self, uuid: Uuid, domain: DomId, paused: bool) -> Result<()> {
        if !paused {
            self.manager().set_state(uuid, State::Starting)?;
            let started = self.world.hypervisor.unpause(domain);
            started.map_err(|errno| Error::new(format!("cannot start domain {domain}"), errno))?;
        }
        self.manager().set_state(uuid, State::Running)
    }

    fn destroy(&mut self, wanted: &str, tell: &mut dyn FnMut(Event)) -> Result<Subject> {
        if let Some(ended) = self.await_end(wanted)? {
            return Ok(ended);
        }
        let subject = subject(&self.find(wanted)?);
        if subject.domain == 0 {
            return Err(
                Error::new("cannot destroy domain 0", "it is the privileged domain")
                    .remedy("run poweroff in it"),
            );
        }
        let claimed = self.manager().claim(subject.uuid);
        if let Err(busy) = claimed {
            // It may have ended by itself since.
            return self.await_end(&subject.name)?.ok_or(busy);
        }
        if let Some(text) = self.erase(subject.domain, subject.uuid)? {
            tell(Event::Warning { text });
        }
        self.manager().forget(subject.uuid)?;
        self.log
            .line(&format!("{}: destroyed on request", subject.name));
        (self.announce)(Event::Gone {
            domain: subject.domain,
            name: subject.name.clone(),
        });
        Ok(subject)
    }

    /// Takes a domain down. What is said is for a user: it is dead, and cannot go away yet.
    fn erase(&mut self, domain: DomId, uuid: Uuid) -> Result<Option<String>> {
        let held = {
            let devices = self.devices;
            let _alone = devices.lock().unwrap_or_else(PoisonError::into_inner);
            let held = held::of_domain(self.world.store, domain)?;
            end::take_down(&mut self.world, domain, Some(uuid))?;
            held
        };
        // What cannot be given back is no reason to keep the domain.
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
        if self.manager().by_domain(subject.domain).is_some() {
            self.manager().rename(subject.uuid, name)?;
        }
        self.world
            .store
            .apply(&nodes::rename(subject.domain, subject.uuid, name))?;
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
            serde_json::json!({ "domain": entry.domain, "name": entry.config.name, "uuid": entry.uuid, "state": entry.state })
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

    /// All domains. Of our own we know the names: asking the store for each would make every operation as long
    /// as there are domains.
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

    /// Looks for domains that have ended.
    ///
    /// # Errors
    /// The hypervisor cannot be asked.
    pub fn look(&mut self) -> Result<Vec<End>> {
        let alive = self.world.hypervisor.domains();
        let alive = alive.map_err(|errno| Error::new("cannot list domains", errno))?;
        self.manager().ended(&alive)
    }

    /// Does what a domain's configuration wants done at its end.
    ///
    /// # Errors
    /// It could not be done.
    pub fn finish(&mut self, end: &End) -> Result<()> {
        let (uuid, domain, name) = (end.entry.uuid, end.domain, end.entry.config.name.clone());
        let reason = end.reason.map_or("vanished", reason_word);
        self.log.line(&format!(
            "{name}: domain {domain} has ended ({reason}): {:?}",
            end.verdict
        ));
        if let Some(warning) = end.warning {
            self.log.line(&format!("{name}: {warning}"));
        }
        (self.announce)(Event::Ended {
            domain,
            name: name.clone(),
            reason: reason.to_owned(),
        });
        match end.verdict {
            Verdict::Wait | Verdict::Preserve => return Ok(()),
            Verdict::RenameRestart => return self.rename_and_restart(end),
            Verdict::Destroy | Verdict::Restart => {}
        }
        self.erase(domain, uuid)?;
        if end.verdict == Verdict::Destroy {
            self.manager().forget(uuid)?;
        } else {
            self.manager().rebuild(uuid)?;
        }
        (self.announce)(Event::Gone { domain, name });
        if end.verdict == Verdict::Destroy {
            return Ok(());
        }
        self.build(uuid, false, &mut |_| {}).map(drop)
    }

    fn rename_and_restart(&mut self, end: &End) -> Result<()> {
        let (uuid, domain) = (end.entry.uuid, end.domain);
        let config = end.entry.config.clone();
        let kept_uuid = Uuid::from_random((self.random)()?);
        let listed = self.listed()?;
        let kept_name = nodes::free_name(&config.name, |name| {
            self.manager().has_name(name)
                || listed
                    .iter()
                    .any(|domain| domain.name.as_deref() == Some(name))
        });
        let kept_name = kept_name
            .ok_or_else(|| Error::new(format!("cannot keep {}", config.name), "no name is free"))?;
        // Its successor wants its disks and addresses; what is kept is there to be looked at.
        self.detach_all(domain)?;
        let renamed = self.world.hypervisor.set_handle(domain, kept_uuid.0);
        renamed.map_err(|errno| Error::new(format!("cannot keep {}", config.name), errno))?;
        self.manager().preserve(uuid, kept_uuid, &kept_name)?;
        self.world
            .store
            .apply(&nodes::preserve(domain, uuid, kept_uuid, &kept_name))?;
        self.manager().reserve(config, uuid)?;
        self.build(uuid, false, &mut |_| {}).map(drop)
    }

    /// Finishes a restart that a kill of the daemon interrupted.
    ///
    /// # Errors
    /// It could not be built.
    pub fn restart_unfinished(&mut self, uuid: Uuid) -> Result<()> {
        self.manager().rebuild(uuid)?;
        self.build(uuid, false, &mut |_| {}).map(drop)
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

fn json(value: impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests;
