//! Ends of domains: on request, by the guest itself, and repeated ones that failed before.

use super::erasing::find;
use super::{Context, subject};
use crate::journal::{Entry, State};
use crate::manager::{Claim, End, Hold, Work};
use core::time::Duration;
use oxen_config::Uuid;
use oxen_domain::end::{Verdict, reason_word};
use oxen_domain::world::DomId;
use oxen_domain::{Error, Result};
use xmd_api::{Event, Subject};

/// The time for an end: a driver that does not let go is given up after twenty seconds.
const PAUSE: Duration = Duration::from_millis(50);
const TRIES: u32 = 60 * 20;

impl Context<'_> {
    pub(super) fn destroy(&mut self, wanted: &str, tell: &mut dyn FnMut(Event)) -> Result<Subject> {
        let entry = self.manager().meant(wanted).cloned();
        let Some(entry) = entry else {
            return self.destroy_stranger(wanted, tell);
        };
        for _ in 0..TRIES {
            let claim = self.manager().claim(entry.uuid);
            match claim {
                Claim::Gone => return Ok(named(&entry)),
                // The domain ends by itself, or its building is given up.
                Claim::Busy => self.world.clock.sleep(PAUSE),
                Claim::Yours(entry) => {
                    let _hold = Hold::of(self.manager, entry.uuid);
                    return self.end_now(&entry, tell);
                }
            }
        }
        let state = self.manager().entry(entry.uuid).map(|entry| entry.state);
        Err(match state {
            Some(State::Building | State::Starting) => {
                let what = format!("{} is still being built", entry.config.name);
                Error::new(what, "a step of that does not end").remedy("see xm log")
            }
            _ => still_ending(&entry.config.name),
        })
    }

    fn destroy_stranger(&mut self, wanted: &str, tell: &mut dyn FnMut(Event)) -> Result<Subject> {
        let subject = subject(&self.find(wanted)?);
        if subject.domain == 0 {
            return Err(
                Error::new("cannot destroy domain 0", "it is the privileged domain")
                    .remedy("run poweroff in it"),
            );
        }
        if let Some(text) = self.erase(subject.domain, Some(subject.uuid))? {
            tell(Event::Warning { text });
        }
        self.told_gone(&subject);
        Ok(subject)
    }

    /// Ends a domain whose entry the caller has claimed.
    fn end_now(&mut self, entry: &Entry, tell: &mut dyn FnMut(Event)) -> Result<Subject> {
        let erased = self.erase_entry(entry.uuid);
        let done = erased.and_then(|text| self.manager().forget(entry.uuid).map(|()| text));
        match done {
            Ok(Some(text)) => tell(Event::Warning { text }),
            Ok(None) => {}
            Err(error) => {
                self.note_broken(entry.uuid, &error);
                return Err(error);
            }
        }
        self.told_gone(&named(entry));
        Ok(named(entry))
    }

    fn told_gone(&self, subject: &Subject) {
        self.log
            .line(&format!("{}: destroyed on request", subject.name));
        (self.announce)(Event::Gone {
            domain: subject.domain,
            name: subject.name.clone(),
        });
    }

    /// Frees a name: waits for a domain of that name that is just being taken down, and takes down
    /// the rest of a domain that failed to end or to start again.
    ///
    /// # Errors
    /// `Error` if a domain of that name does not end in time.
    pub(super) fn make_room(&mut self, name: &str) -> Result<()> {
        for _ in 0..TRIES {
            let left = self.manager().left_over(name);
            if let Some(uuid) = left {
                let claim = self.manager().claim(uuid);
                if let Claim::Yours(entry) = claim {
                    let _hold = Hold::of(self.manager, uuid);
                    self.end_now(&entry, &mut |_| {})?;
                }
                continue;
            }
            let is_ending =
                |entry: &Entry| entry.state == State::Ending && entry.config.name == name;
            if !self.manager().entries().any(is_ending) {
                return Ok(());
            }
            self.world.clock.sleep(PAUSE);
        }
        Err(still_ending(name))
    }

    /// Looks for work. The caller passes each piece to [`Context::finish`].
    ///
    /// # Errors
    /// `Error` if the hypervisor does not answer.
    pub fn look(&mut self) -> Result<Vec<Work>> {
        let alive = self.domains()?;
        let mut manager = self.manager();
        let (work, failed) = manager.work(&alive);
        let text = failed.first().map(|(uuid, error)| {
            let name = manager.entry(*uuid).map(|entry| entry.config.name.clone());
            let name = name.unwrap_or_default();
            format!("{name}: its end waits: {error}")
        });
        if manager.is_news(text.clone()) {
            self.log.line(&text.unwrap_or_default());
        }
        Ok(work)
    }

    /// Does a piece of work. A later look repeats work that failed.
    ///
    /// # Errors
    /// `Error` of the step that failed; a later look repeats the work.
    pub fn finish(&mut self, work: &Work) -> Result<()> {
        let uuid = match work {
            Work::End(end) => end.entry.uuid,
            Work::Again(uuid) => *uuid,
            Work::Sweep => return self.sweep_now(),
            Work::Offer(disk) => return self.offer_again(*disk),
        };
        let _hold = Hold::of(self.manager, uuid);
        if let Work::End(end) = work {
            self.told_end(end);
            if end.verdict == Verdict::Preserve {
                return Ok(());
            }
        }
        self.settle(uuid)
    }

    fn told_end(&self, end: &End) {
        let name = &end.entry.config.name;
        let reason = end.reason.map_or("vanished", reason_word);
        self.log.line(&format!(
            "{name}: domain {} has ended ({reason}): {:?}",
            end.domain, end.verdict
        ));
        if let Some(warning) = end.warning {
            self.log.line(&format!("{name}: {warning}"));
        }
        (self.announce)(Event::Ended {
            domain: end.domain,
            name: name.clone(),
            reason: reason.to_owned(),
        });
    }

    pub(crate) fn sweep_now(&mut self) -> Result<()> {
        let swept = self.sweep();
        if let Err(error) = &swept {
            self.manager().sweep_again();
            self.log.line(&format!("remains of domains wait: {error}"));
        }
        swept
    }

    /// Brings the domain of an entry that the caller has claimed into the entry's state: a step
    /// that was under way is finished or undone, depending on what the hypervisor has. Can be
    /// repeated.
    ///
    /// # Errors
    /// `Error` of the step that failed. The entry is noted as broken, and a later look returns it
    /// again.
    pub(crate) fn settle(&mut self, uuid: Uuid) -> Result<()> {
        let done = self.step(uuid);
        match &done {
            Ok(()) => self.manager().mended(uuid),
            Err(error) => self.note_broken(uuid, error),
        }
        done
    }

    fn step(&mut self, uuid: Uuid) -> Result<()> {
        let entry = self.manager().entry(uuid).cloned();
        let Some(entry) = entry else {
            return Ok(());
        };
        let alive = self.domains()?;
        let found = find(&alive, uuid).map(|info| info.domain);
        match (entry.state, found) {
            (State::Running | State::Kept, Some(domain)) => self.adopt(&entry, domain),
            (State::Starting, Some(domain)) => self.start_again(uuid, domain),
            (State::Restarting, _) => self.restart(&entry, &alive),
            (State::Building | State::Ending, _) | (_, None) => {
                self.erase_entry(uuid)?;
                self.manager().forget(uuid)?;
                if let Some(domain) = entry.domain {
                    let name = entry.config.name;
                    (self.announce)(Event::Gone { domain, name });
                }
                Ok(())
            }
        }
    }

    /// Starts a domain that was complete when a failure or a kill came before it ran.
    fn start_again(&mut self, uuid: Uuid, domain: DomId) -> Result<()> {
        let started = self.world.hypervisor.unpause(domain);
        started.map_err(|errno| Error::new(format!("cannot start domain {domain}"), errno))?;
        let mut manager = self.manager();
        manager.born(uuid, domain)?;
        manager.set_state(uuid, State::Running)
    }

    /// Reports once that an entry is broken.
    pub(crate) fn note_broken(&self, uuid: Uuid, error: &Error) {
        let mut manager = self.manager();
        let name = manager.entry(uuid).map(|entry| entry.config.name.clone());
        if manager.broke(uuid, error) {
            let name = name.unwrap_or_default();
            self.log
                .line(&format!("{name}: broken, and tried again later: {error}"));
        }
    }
}

fn named(entry: &Entry) -> Subject {
    Subject {
        domain: entry.domain.unwrap_or_default(),
        name: entry.config.name.clone(),
        uuid: entry.uuid,
    }
}

fn still_ending(name: &str) -> Error {
    let what = format!("{name} is still being taken down");
    Error::new(what, "a driver in dom0 does not let go of it")
        .remedy("see xm log, and dmesg in dom0")
}
