//! Devices of guests: all of a configuration's at the start, single ones while the guest runs.
//!
//! Each change of a running guest's devices is noted in the journal beforehand. So after a kill at
//! any moment the next daemon finds the device whole and keeps it, or removes what there is of the
//! device ([`recover`]).

use crate::journal::{self, Entry, Pending};
use crate::ops::{Context, subject};
use crate::watcher::Disk;
use oxen_config::{DomainConfig, Uuid};
use oxen_devices::{Device, Guest, Kind, Spec, State, bus, held};
use oxen_domain::world::DomId;
use oxen_domain::{Error, Result};
use std::sync::PoisonError;
use xmd_api::{Event, Subject};

impl Context<'_> {
    /// Gives a domain that does not run yet all devices of its configuration. Warnings about
    /// devices go to `tell`.
    ///
    /// # Errors
    /// `Error` if a device cannot be attached; the caller takes the domain down with the devices
    /// that it has.
    pub(crate) fn attach_all(
        &mut self,
        uuid: Uuid,
        config: &DomainConfig,
        domain: DomId,
        tell: &mut dyn FnMut(Event),
    ) -> Result<()> {
        let guest = Guest {
            domain,
            uuid,
            name: &config.name,
        };
        for spec in Spec::all(config) {
            self.still_wanted(uuid, &config.name)?;
            let mut device = (self.device)(&spec)?;
            if !spec.is_empty_drive() {
                self.offer(&guest, device.as_mut(), tell)?;
            }
        }
        Ok(())
    }

    /// Takes all devices from a domain that has ended and is kept.
    pub(crate) fn detach_all(&mut self, domain: DomId) -> Result<()> {
        for held in held::of_domain(self.world.store, domain)? {
            bus::remove(self.world.store, domain, held.kind, held.id)?;
        }
        Ok(())
    }

    fn offer(
        &mut self,
        guest: &Guest<'_>,
        device: &mut dyn Device,
        tell: &mut dyn FnMut(Event),
    ) -> Result<()> {
        let devices = self.devices;
        let _alone = devices.lock().unwrap_or_else(PoisonError::into_inner);
        let told = bus::attach(self.world.store, guest, device)?;
        told.into_iter()
            .for_each(|text| tell(Event::Warning { text }));
        Ok(())
    }

    /// Attaches a device to a guest that runs, and waits for the guest to use it.
    pub(crate) fn attach(
        &mut self,
        wanted: &str,
        spec: &Spec,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Subject> {
        let found = subject(&self.find(wanted)?);
        let mut spec = spec.clone();
        if let Some(entry) = self.manager().by_domain(found.domain) {
            spec.complete(&entry.config)?;
        }
        let mut device = (self.device)(&spec)?;
        let (kind, id) = (device.kind(), device.id());
        let guest = guest_of(&found);
        let empty = spec.is_empty_drive();
        let pending = Pending::Attach(Box::new(spec));
        self.manager().begin(found.uuid, pending.clone())?;
        // From here on no other thread attaches a device of that name.
        if let Err(error) = self.check_free(&found, kind, id) {
            self.settle_noted(found.uuid, &pending, false)?;
            return Err(error);
        }
        if empty {
            self.settle_noted(found.uuid, &pending, true)?;
            return Ok(found);
        }
        let attached = self.offer(&guest, device.as_mut(), tell);
        // From here on the driver has the device, which is whole.
        drop(device);
        let connected = attached
            .and_then(|()| bus::connected(self.world.store, &guest, kind, id))
            .and_then(|connected| {
                let settled = self.manager().settle(found.uuid, &pending, true);
                settled.map(|()| connected)
            });
        let connected = match connected {
            Ok(connected) => connected,
            Err(error) => {
                self.take_back(&found, &pending);
                return Err(error);
            }
        };
        let title = format!("{kind} {}", kind.title(id));
        self.log.line(&format!("{}: {title} attached", found.name));
        if !connected {
            let text = format!(
                "{} has not connected to {title} yet: is it stopped, or without a driver?",
                found.name
            );
            tell(Event::Warning { text });
        }
        Ok(found)
    }

    /// The guest has no such device yet: a device that it has must not be mistaken for the rest of
    /// an attach.
    fn check_free(&mut self, found: &Subject, kind: Kind, id: u32) -> Result<()> {
        let there = held::find(self.world.store, found.domain, kind, id)?;
        if there.is_none() && !self.has_empty_drive(found.domain, kind, id) {
            return Ok(());
        }
        let what = format!("cannot attach {kind} {} to {}", kind.title(id), found.name);
        let remedy = match self.has_empty_drive(found.domain, kind, id) {
            true => "xm cd-insert puts a disc into a drive",
            false => "choose another name, or detach that one",
        };
        Err(Error::new(what, "the guest has one of that name already").remedy(remedy))
    }

    /// Removes what there is of a device whose attach failed. A removal that fails now is repeated
    /// later.
    fn take_back(&mut self, found: &Subject, pending: &Pending) {
        let undo = self.manager().undo(found.uuid, pending);
        let Some(undo) = undo else {
            return;
        };
        if let Err(error) = self.remove(found.uuid, found.domain, &undo) {
            self.note_broken(found.uuid, &error);
        }
    }

    /// Removes what there is of a device, for a pending change in the journal.
    fn remove(&mut self, uuid: Uuid, domain: DomId, undo: &Pending) -> Result<()> {
        let Some((kind, id)) = undo.place() else {
            return Ok(());
        };
        let removed = {
            let devices = self.devices;
            let _alone = devices.lock().unwrap_or_else(PoisonError::into_inner);
            bus::remove(self.world.store, domain, kind, id)
        };
        let mut manager = self.manager();
        match removed {
            Ok(()) => manager.settle(uuid, undo, matches!(undo, Pending::Detach { .. })),
            Err(error) => {
                manager.leave(uuid, undo);
                Err(error)
            }
        }
    }

    pub(crate) fn detach(
        &mut self,
        wanted: &str,
        kind: Kind,
        named: &str,
        force: bool,
    ) -> Result<Subject> {
        let found = subject(&self.find(wanted)?);
        let id = held::named(self.world.store, found.domain, kind, named)?;
        let pending = Pending::Detach { kind, id };
        if self.has_empty_drive(found.domain, kind, id) {
            self.manager().begin(found.uuid, pending.clone())?;
            self.settle_noted(found.uuid, &pending, true)?;
            return Ok(found);
        }
        let Some(held) = held::find(self.world.store, found.domain, kind, id)? else {
            let what = format!("cannot take {kind} {named} from {}", found.name);
            return Err(
                Error::new(what, "the guest has no such device").remedy(format!(
                    "see xm {}-list {}",
                    kind.command(),
                    found.name
                )),
            );
        };
        self.manager().begin(found.uuid, pending.clone())?;
        let detached = bus::detach(self.world.store, &guest_of(&found), &held, force);
        if let Err(error) = detached {
            self.not_detached(&found, &pending, &error);
            return Err(error);
        }
        self.settle_noted(found.uuid, &pending, true)?;
        let title = format!("{kind} {}", held.name);
        self.log.line(&format!("{}: {title} detached", found.name));
        Ok(found)
    }

    /// A detach that failed may have removed the device nevertheless.
    fn not_detached(&mut self, found: &Subject, pending: &Pending, error: &Error) {
        let Some((kind, id)) = pending.place() else {
            return;
        };
        let there = held::find(self.world.store, found.domain, kind, id);
        let settled = there.and_then(|there| {
            let gone = there.is_none();
            self.manager().settle(found.uuid, pending, gone)
        });
        if settled.is_err() {
            self.manager().leave(found.uuid, pending);
            self.note_broken(found.uuid, error);
        }
    }

    /// Notes the outcome of a change. If the journal cannot be written, the outcome is noted later.
    fn settle_noted(&self, uuid: Uuid, pending: &Pending, done: bool) -> Result<()> {
        let settled = self.manager().settle(uuid, pending, done);
        if let Err(error) = &settled {
            self.note_broken(uuid, error);
        }
        settled
    }

    fn has_empty_drive(&mut self, domain: DomId, kind: Kind, id: u32) -> bool {
        self.manager().by_domain(domain).is_some_and(|entry| {
            let mut all = Spec::all(&entry.config).into_iter();
            all.any(|it| it.is_empty_drive() && it.kind() == kind && it.id() == Some(id))
        })
    }

    /// Linux's back end cannot change the image of an existing drive. So the drive is removed, and
    /// a new one takes its place.
    pub(crate) fn change_media(
        &mut self,
        wanted: &str,
        named: &str,
        target: Option<String>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Subject> {
        let found = subject(&self.find(wanted)?);
        let id = Kind::Vbd.id(named)?;
        let drive = self.manager().by_domain(found.domain).and_then(|entry| {
            let mut disks = entry.config.disks.iter().filter(|disk| disk.cdrom);
            disks
                .find(|disk| Spec::Vbd((*disk).clone()).id() == Some(id))
                .cloned()
        });
        let Some(mut drive) = drive else {
            let what = format!("cannot change the disc in {named} of {}", found.name);
            return Err(Error::new(what, "it is no CD drive")
                .remedy("xm block-attach and block-detach are for disks"));
        };
        self.detach(wanted, Kind::Vbd, named, false)?;
        drive.target = target.unwrap_or_default();
        let done = self.attach(wanted, &Spec::Vbd(drive.clone()), tell);
        if done.is_err() {
            drive.target.clear();
            self.attach(wanted, &Spec::Vbd(drive), tell)?;
        }
        done
    }

    /// Whether a guest of xmd has let go of a disk that it still owns.
    ///
    /// # Errors
    /// `Error` of the store.
    pub fn is_let_go(&mut self, (domain, id): Disk) -> Result<bool> {
        let found = held::find(self.world.store, domain, Kind::Vbd, id)?;
        Ok(found.as_ref().is_some_and(bus::is_let_go) && self.is_running(domain))
    }

    fn is_running(&self, domain: DomId) -> bool {
        let manager = self.manager();
        let entry = manager.by_domain(domain);
        entry.is_some_and(|entry| entry.state == journal::State::Running)
    }

    /// Makes a disk that a guest has let go of usable again.
    pub(crate) fn offer_again(&mut self, (domain, id): Disk) -> Result<()> {
        // No domain is taken down meanwhile.
        let devices = self.devices;
        let _alone = devices.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_running(domain) || !bus::offer_again(self.world.store, domain, Kind::Vbd, id)? {
            return Ok(());
        }
        let title = Kind::Vbd.title(id);
        self.log.line(&format!(
            "domain {domain} has let go of disk {title}: it can have it again"
        ));
        Ok(())
    }

    /// Settles changes of a running domain's devices that failed, or that were under way when the
    /// last daemon was killed.
    ///
    /// # Errors
    /// `Error` of the store or the journal.
    pub(crate) fn settle_devices(&mut self, entry: &Entry, domain: DomId) -> Result<()> {
        let left = self.manager().left_pending(entry.uuid);
        let mut result = Ok(());
        for pending in left {
            let settled = self.settle_device(entry, domain, &pending);
            self.manager().leave(entry.uuid, &pending);
            result = result.and(settled);
        }
        result
    }

    fn settle_device(&mut self, entry: &Entry, domain: DomId, pending: &Pending) -> Result<()> {
        let Some((kind, id)) = pending.place() else {
            return self.manager().settle(entry.uuid, pending, false);
        };
        let found = held::find(self.world.store, domain, kind, id)?;
        // An attach is whole when the driver has what it needs; a detach is begun when the back end
        // was set to close.
        let whole = found.is_some_and(|held| {
            held.node("online") == "1" && held.back_state >= State::InitWait && held.is_plugged()
        });
        let keep = whole && !matches!(pending, Pending::Undo { .. });
        if keep {
            let done = matches!(pending, Pending::Attach(_));
            self.manager().settle(entry.uuid, pending, done)?;
        } else {
            self.remove(entry.uuid, domain, pending)?;
        }
        let fate = if keep {
            "is whole and kept"
        } else {
            "was half done and is gone"
        };
        self.log.line(&format!(
            "{}: {kind} {} {fate}",
            entry.config.name,
            kind.title(id)
        ));
        Ok(())
    }
}

fn guest_of(subject: &Subject) -> Guest<'_> {
    Guest {
        domain: subject.domain,
        uuid: subject.uuid,
        name: &subject.name,
    }
}
