//! The domains that xmd manages, and their states. Each change of state is in the journal before
//! the action that it announces, so that a restarted daemon knows the intent.
//!
//! The manager is locked for moments only; building and taking down happen outside of the lock. The
//! thread that does so has claimed the entry ([`hands`]), which keeps other threads away. A state
//! such as [`State::Ending`] in an entry that no thread has claimed means that the work failed: it
//! is repeated later.

mod hands;

use crate::journal::{Entry, Journal, Pending, State};
use crate::watcher::Disk;
use oxen_config::{DomainConfig, Uuid};
use oxen_domain::end::{Verdict, verdict};
use oxen_domain::world::DomId;
use oxen_domain::{Error, Result};
use oxen_sys::hypercall::{DomainInfo, ShutdownReason};
use std::collections::BTreeMap;

pub use hands::{Claim, Hold};

pub struct Manager {
    journal: Journal,
    entries: BTreeMap<Uuid, Entry>,
    hands: hands::Hands,
    /// Changes of devices that a thread works at now. Any other pending change is left from a
    /// failure.
    at_work: Vec<(Uuid, Pending)>,
    /// Whether the remains of domains that are gone have to be looked for.
    sweep: bool,
    /// The last message about ends that could not be noted, so that it is not repeated.
    complaint: Option<String>,
}

/// Work that the daemon does without a client's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// A domain has ended.
    End(Box<End>),
    /// A step that failed before is to be repeated.
    Again(Uuid),
    /// Remains of domains that are gone.
    Sweep,
    /// A disk that its guest has let go of, and may want again.
    Offer(Disk),
}

/// The end of a domain, and the treatment that its configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub entry: Entry,
    pub domain: DomId,
    /// The reason of the shutdown; `None` if the domain vanished.
    pub reason: Option<ShutdownReason>,
    pub verdict: Verdict,
    pub warning: Option<&'static str>,
}

impl Manager {
    #[must_use]
    pub fn new(journal: Journal, entries: Vec<Entry>) -> Self {
        Self {
            journal,
            entries: entries
                .into_iter()
                .map(|entry| (entry.uuid, entry))
                .collect(),
            hands: hands::Hands::default(),
            at_work: Vec::new(),
            sweep: false,
            complaint: None,
        }
    }

    #[must_use]
    pub fn entry(&self, uuid: Uuid) -> Option<&Entry> {
        self.entries.get(&uuid)
    }

    /// The entry that a user means by a number or a name; the number counts first, as in xl.
    #[must_use]
    pub fn meant(&self, wanted: &str) -> Option<&Entry> {
        let number = wanted.parse().ok();
        let by_number = number.and_then(|domain| self.by_domain(domain));
        by_number.or_else(|| {
            let mut entries = self.entries.values();
            entries.find(|entry| entry.config.name == wanted)
        })
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The entry of a domain that exists under that number.
    #[must_use]
    pub fn by_domain(&self, domain: DomId) -> Option<&Entry> {
        self.entries
            .values()
            .find(|entry| entry.domain == Some(domain))
    }

    #[must_use]
    pub fn has_name(&self, name: &str) -> bool {
        self.entries.values().any(|entry| entry.config.name == name)
    }

    /// Reserves a name and a UUID for a domain that is about to be built. The caller has claimed
    /// the entry.
    ///
    /// # Errors
    /// `Error` if the name or UUID is in use, or if the journal cannot be written.
    pub fn reserve(&mut self, config: DomainConfig, uuid: Uuid) -> Result<()> {
        let taken = |what: String, remedy: &str| {
            Err(Error::new(format!("cannot create {}", config.name), what).remedy(remedy))
        };
        if self.has_name(&config.name) || config.name == "Domain-0" {
            return taken(
                "there is a domain of that name already".to_owned(),
                "choose another name=, or end that one (xm list)",
            );
        }
        if self.entries.contains_key(&uuid) {
            return taken(
                format!("the uuid {uuid} is in use already"),
                "leave uuid= out, or end that one (xm list)",
            );
        }
        self.put(Entry::new(uuid, config))?;
        self.hands.take(uuid);
        Ok(())
    }

    /// Notes the number of a domain that was created.
    ///
    /// # Errors
    /// `Error` if the journal cannot be written.
    pub fn born(&mut self, uuid: Uuid, domain: DomId) -> Result<()> {
        self.change(uuid, |entry| entry.domain = Some(domain))
    }

    /// Notes a new state.
    ///
    /// # Errors
    /// `Error` if the journal cannot be written.
    pub fn set_state(&mut self, uuid: Uuid, state: State) -> Result<()> {
        self.change(uuid, |entry| entry.state = state)
    }

    /// Notes a new name.
    ///
    /// # Errors
    /// `Error` if the name is in use, or if the journal cannot be written.
    pub fn rename(&mut self, uuid: Uuid, name: &str) -> Result<()> {
        if self.has_name(name) {
            return Err(Error::new(
                format!("cannot use the name {name}"),
                "there is a domain of that name already",
            )
            .remedy("choose another"));
        }
        self.change(uuid, |entry| name.clone_into(&mut entry.config.name))
    }

    /// Changes the configuration by `edit`; the change applies from the domain's next start on.
    ///
    /// # Errors
    /// `Error` if the journal cannot be written.
    pub fn reconfigure(&mut self, uuid: Uuid, edit: impl FnOnce(&mut DomainConfig)) -> Result<()> {
        self.change(uuid, |entry| edit(&mut entry.config))
    }

    /// Gives the rest of an ended domain another name and UUID. The caller has claimed the new
    /// entry.
    ///
    /// # Errors
    /// `Error` if the journal cannot be written.
    pub fn preserve(&mut self, old: Uuid, new: Uuid, name: &str) -> Result<()> {
        let Some(mut entry) = self.entries.get(&old).cloned() else {
            return Ok(());
        };
        entry.uuid = new;
        entry.config.uuid = Some(new);
        entry.config.name = name.to_owned();
        entry.state = State::Kept;
        self.put(entry)?;
        self.hands.take(new);
        Ok(())
    }

    /// The entry of a domain that is kept, beside that of its successor.
    #[must_use]
    pub fn preserved(&self, domain: DomId) -> Option<&Entry> {
        let mut entries = self.entries.values();
        entries.find(|entry| entry.state == State::Kept && entry.domain == Some(domain))
    }

    /// Removes the entry of a domain that is gone.
    ///
    /// # Errors
    /// `Error` if the journal cannot be changed; the entry stays.
    pub fn forget(&mut self, uuid: Uuid) -> Result<()> {
        self.journal.remove(uuid)?;
        self.entries.remove(&uuid);
        self.hands.mended(uuid);
        Ok(())
    }

    /// The domain is being taken down for good. The journal notes this if it can. If it cannot, a
    /// successor that finds the entry running and its domain gone comes to the same end. So a full
    /// file system does not keep a domain.
    pub fn ending(&mut self, uuid: Uuid) {
        self.change_anyway(uuid, |entry| entry.state = State::Ending);
    }

    /// The work that follows from the hypervisor's list of domains: ends, each returned once, and
    /// steps that failed before. The caller has claimed the entries of the work, and releases each
    /// ([`Hold`]). The second list has the ends that could not be noted; they are returned again by
    /// a later call.
    pub fn work(&mut self, alive: &[DomainInfo]) -> (Vec<Work>, Vec<(Uuid, Error)>) {
        let (mut work, mut failed) = (Vec::new(), Vec::new());
        for (uuid, end) in self.ended(alive) {
            let Some((domain, reason)) = end else {
                // The domain was kept for examination, and is gone.
                self.ending(uuid);
                self.hands.take(uuid);
                work.push(Work::Again(uuid));
                continue;
            };
            match self.note_end(uuid, domain, reason) {
                Ok(Some(end)) => work.push(Work::End(Box::new(end))),
                Ok(None) => {}
                Err(error) => failed.push((uuid, error)),
            }
        }
        let due = self.hands.due(self.entries.keys().copied());
        work.extend(due.into_iter().map(Work::Again));
        if core::mem::take(&mut self.sweep) {
            work.push(Work::Sweep);
        }
        (work, failed)
    }

    /// Notes that the remains of domains are to be looked for once more.
    pub fn sweep_again(&mut self) {
        self.sweep = true;
    }

    /// The entries whose domain has ended, with the reason if it is known. A kept entry without a
    /// domain is among them.
    #[expect(clippy::type_complexity, reason = "read by one function")]
    fn ended(&self, alive: &[DomainInfo]) -> Vec<(Uuid, Option<(DomId, Option<ShutdownReason>)>)> {
        let alive: BTreeMap<DomId, &DomainInfo> =
            alive.iter().map(|info| (info.domain, info)).collect();
        let end_of = |entry: &Entry| {
            let domain = entry.domain?;
            let info = alive.get(&domain);
            let info = info.filter(|info| info.handle == entry.uuid.0 && !info.dying());
            match (entry.state, info) {
                (State::Running, Some(info)) => {
                    info.shutdown().map(|reason| Some((domain, Some(reason))))
                }
                (State::Running, None) => Some(Some((domain, None))),
                (State::Kept, None) => Some(None),
                _ => None,
            }
        };
        let entries = self.entries.values();
        entries
            .filter(|entry| !self.hands.has(entry.uuid))
            .filter_map(|entry| Some((entry.uuid, end_of(entry)?)))
            .collect()
    }

    /// Decides the treatment of a domain that has ended, and notes it. `None` if the domain is left
    /// alone.
    fn note_end(
        &mut self,
        uuid: Uuid,
        domain: DomId,
        reason: Option<ShutdownReason>,
    ) -> Result<Option<End>> {
        let Some(entry) = self.entries.get(&uuid) else {
            return Ok(None);
        };
        let (verdict, warning) = match reason {
            Some(reason) => verdict(&entry.config.actions, reason),
            None => (Verdict::Destroy, None),
        };
        match verdict {
            // The domain may be resumed, and run.
            Verdict::Wait => return Ok(None),
            Verdict::Preserve => self.set_state(uuid, State::Kept)?,
            Verdict::Destroy => self.ending(uuid),
            Verdict::Restart | Verdict::RenameRestart => self.set_state(uuid, State::Restarting)?,
        }
        self.hands.take(uuid);
        Ok(self.entries.get(&uuid).cloned().map(|entry| End {
            entry,
            domain,
            reason,
            verdict,
            warning,
        }))
    }

    /// Notes that nothing of the domain exists any more and that it is about to be built again. The
    /// state stays [`State::Restarting`] until the domain runs, so that a kill or a failure does
    /// not end it.
    ///
    /// # Errors
    /// `Error` if the journal cannot be written.
    pub fn rebuild(&mut self, uuid: Uuid) -> Result<()> {
        self.change(uuid, from_nothing)
    }

    /// Notes that a domain could not be built again and that nothing of it exists. The build is
    /// repeated later.
    pub fn not_rebuilt(&mut self, uuid: Uuid) {
        self.change_anyway(uuid, from_nothing);
    }

    /// Notes a change of a running domain's device that is about to be made.
    ///
    /// # Errors
    /// `Error` if the domain does not run, if another change of that device is under way, or if the
    /// journal cannot be written.
    pub fn begin(&mut self, uuid: Uuid, what: Pending) -> Result<()> {
        let Some(entry) = self.entries.get(&uuid) else {
            return Err(Error::new(
                "cannot change its devices",
                "xmd did not create it",
            ));
        };
        let refuse = |cause: &str| {
            let name = &entry.config.name;
            Err(
                Error::new(format!("cannot change the devices of {name}"), cause)
                    .remedy("try again in a moment"),
            )
        };
        if entry.state != State::Running {
            return refuse("it is just being built or taken down");
        }
        if entry
            .pending
            .iter()
            .any(|other| other.place() == what.place())
        {
            return refuse("that device is just being attached or detached");
        }
        self.change(uuid, |entry| entry.pending.push(what.clone()))?;
        self.at_work.push((uuid, what));
        Ok(())
    }

    /// Notes that a change of a device was done, or undone, and changes the configuration
    /// accordingly. Does nothing for a domain that was built again meanwhile.
    ///
    /// # Errors
    /// `Error` if the journal cannot be written.
    pub fn settle(&mut self, uuid: Uuid, what: &Pending, done: bool) -> Result<()> {
        self.leave(uuid, what);
        if !self.is_pending(uuid, what) {
            return Ok(());
        }
        self.change(uuid, |entry| {
            entry.pending.retain(|other| other != what);
            match what {
                Pending::Attach(spec) if done => spec.enter(&mut entry.config),
                Pending::Detach { kind, id } if done => kind.leave(&mut entry.config, *id),
                _ => {}
            }
        })
    }

    /// Notes that an attach failed and that the rest of the device is to be removed. Returns the
    /// pending removal, if the domain is still the one that was to get the device.
    pub fn undo(&mut self, uuid: Uuid, what: &Pending) -> Option<Pending> {
        self.leave(uuid, what);
        let (kind, id) = what.place().filter(|_| self.is_pending(uuid, what))?;
        let undo = Pending::Undo { kind, id };
        self.at_work.push((uuid, undo.clone()));
        // Even if the journal cannot note it now: a device whose attach was reported as failed must
        // go.
        self.change_anyway(uuid, |entry| {
            entry.pending.retain(|other| other != what);
            entry.pending.push(undo.clone());
        });
        Some(undo)
    }

    /// Releases a pending change that could not be settled; a later look repeats it.
    pub fn leave(&mut self, uuid: Uuid, what: &Pending) {
        self.at_work.retain(|one| (one.0, &one.1) != (uuid, what));
    }

    /// Changes of devices that failed, or that a killed daemon left. The caller works at them from
    /// here on.
    #[must_use]
    pub fn left_pending(&mut self, uuid: Uuid) -> Vec<Pending> {
        let pending = self.entries.get(&uuid).map(|entry| entry.pending.clone());
        let mut left = pending.unwrap_or_default();
        left.retain(|what| !self.at_work.contains(&(uuid, what.clone())));
        let mine = left.iter().map(|what| (uuid, what.clone()));
        self.at_work.extend(mine);
        left
    }

    /// Returns whether this is new, that is not yet reported.
    pub fn is_news(&mut self, text: Option<String>) -> bool {
        let news = text.is_some() && text != self.complaint;
        self.complaint = text;
        news
    }

    fn is_pending(&self, uuid: Uuid, what: &Pending) -> bool {
        let entry = self.entries.get(&uuid);
        entry.is_some_and(|entry| entry.pending.contains(what))
    }

    /// Makes a change that holds even if the journal cannot be written. The next successful write
    /// includes it.
    fn change_anyway(&mut self, uuid: Uuid, edit: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.entries.get_mut(&uuid) {
            edit(entry);
            let _ = self.journal.write(entry);
        }
    }

    fn change(&mut self, uuid: Uuid, edit: impl FnOnce(&mut Entry)) -> Result<()> {
        let Some(entry) = self.entries.get(&uuid) else {
            return Err(Error::new(
                format!("the domain with uuid {uuid}"),
                "it is not ours",
            ));
        };
        let mut entry = entry.clone();
        edit(&mut entry);
        self.put(entry)
    }

    fn put(&mut self, entry: Entry) -> Result<()> {
        self.journal.write(&entry)?;
        self.entries.insert(entry.uuid, entry);
        Ok(())
    }
}

/// Nothing is left of the domain, but the entry is.
fn from_nothing(entry: &mut Entry) {
    entry.state = State::Restarting;
    entry.domain = None;
    entry.pending.clear();
}
