//! Building domains, for clients and again after an end. The thread that builds has claimed the
//! entry, and gives up between two steps if a client wants the domain gone.

use super::Context;
use crate::journal::State;
use crate::manager::Hold;
use oxen_config::{DomainConfig, Uuid};
use oxen_domain::bootloader;
use oxen_domain::build::{self, Order};
use oxen_domain::world::DomId;
use oxen_domain::{Error, Result};
use std::sync::PoisonError;
use xmd_api::{Event, Subject};

/// The reason for which a domain is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A client's request. A failure is the client's reply, and the entry ends.
    Client,
    /// The configuration's `restart` after an end. A failure is repeated later.
    Restart,
}

impl Context<'_> {
    /// Builds a domain and starts it.
    ///
    /// # Errors
    /// `Error` of the step that failed; nothing is left of the domain.
    pub fn create(
        &mut self,
        mut config: DomainConfig,
        paused: bool,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Subject> {
        config
            .check()
            .map_err(|cause| Error::new(format!("cannot create {}", config.name), cause))?;
        oxen_devices::vbd::check_room(&config, 0)?;
        oxen_devices::vif::complete(&mut config)?;
        let uuid = match config.uuid {
            Some(uuid) => uuid,
            None => Uuid::from_random((self.random)()?),
        };
        config.uuid = Some(uuid);
        let name = config.name.clone();
        self.make_room(&name)?;
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
        let _hold = Hold::of(self.manager, uuid);
        self.build_entry(uuid, paused, Origin::Client, tell)
    }

    /// Builds the domain of a journal entry that the caller has claimed, logs and announces the
    /// outcome, and undoes what was built if a step fails.
    pub(super) fn build_entry(
        &mut self,
        uuid: Uuid,
        paused: bool,
        origin: Origin,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Subject> {
        let entry = self.manager().entry(uuid).cloned();
        let entry =
            entry.ok_or_else(|| Error::new("cannot build a domain", "its entry is gone"))?;
        let name = entry.config.name.clone();
        self.log.line(&format!("{name}: building, uuid {uuid}"));
        match self.bring_up(uuid, &entry.config, paused, origin, tell) {
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
                self.undo_build(uuid, origin);
                Err(error)
            }
        }
    }

    /// Removes all of what was built. What cannot be removed now is removed later.
    fn undo_build(&mut self, uuid: Uuid, origin: Origin) {
        let erased = self.erase_entry(uuid).map(drop);
        let again = origin == Origin::Restart && !self.manager().is_given_up(uuid);
        let ended = erased.and_then(|()| match again {
            true => {
                self.manager().not_rebuilt(uuid);
                Ok(())
            }
            false => self.manager().forget(uuid),
        });
        if let Err(error) = ended {
            if !again {
                self.manager().ending(uuid);
            }
            self.note_broken(uuid, &error);
        }
    }

    /// Loads the images, creates the domain, attaches its devices and starts it.
    fn bring_up(
        &mut self,
        uuid: Uuid,
        config: &DomainConfig,
        paused: bool,
        origin: Origin,
        tell: &mut dyn FnMut(Event),
    ) -> Result<DomId> {
        tell(Event::Progress {
            step: build::Step::ReadingKernel,
        });
        build::check_memory(self.world.hypervisor, config)?;
        let booted = bootloader::load(
            config,
            &mut |text| self.log.line(&format!("{}: {text}", config.name)),
            &|| self.still_wanted(uuid, &config.name).is_ok(),
        )?;
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
        self.still_wanted(uuid, &config.name)?;
        let domain = build::create_paused(
            &mut self.world,
            &order,
            &images,
            &mut progress,
            &mut |domain| lock().born(uuid, domain),
        )?;
        // The images are in the guest's memory now, and its devices may take their time.
        drop(images);
        self.attach_all(uuid, config, domain, &mut |event| {
            // A restarted guest's disks are not reported again: their content is the guest's own.
            if let (Event::Warning { text }, Origin::Client) = (&event, origin) {
                log.line(&format!("{}: {text}", config.name));
                tell(event);
            }
        })?;
        self.still_wanted(uuid, &config.name)?;
        self.start(uuid, domain, paused)?;
        log.line(&format!("{}: {:?}", config.name, build::Step::Started));
        tell(Event::Progress {
            step: build::Step::Started,
        });
        Ok(domain)
    }

    /// # Errors
    /// `Error` if a client has requested the domain's end.
    pub(crate) fn still_wanted(&self, uuid: Uuid, name: &str) -> Result<()> {
        match self.manager().is_given_up(uuid) {
            false => Ok(()),
            true => Err(Error::new(
                format!("cannot create {name}"),
                "it was destroyed while it was being built",
            )),
        }
    }

    fn start(&mut self, uuid: Uuid, domain: DomId, paused: bool) -> Result<()> {
        if !paused {
            self.manager().set_state(uuid, State::Starting)?;
            let started = self.world.hypervisor.unpause(domain);
            started.map_err(|errno| Error::new(format!("cannot start domain {domain}"), errno))?;
        }
        self.manager().set_state(uuid, State::Running)
    }
}
