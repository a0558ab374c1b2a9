//! The domains that are ours and where each stands. Every change of state is in the journal before
//! the deed that it announces, so that a restart knows what was meant.
//!
//! The manager is locked for moments only; building and taking down go on outside of it, while the
//! state ([`State::Building`], [`State::Ending`], ...) keeps others away from the domain.

use crate::journal::{Entry, Journal, Pending, State};
use oxen_config::{DomainConfig, Uuid};
use oxen_domain::end::{Verdict, verdict};
use oxen_domain::ports::DomId;
use oxen_domain::{Error, Result};
use oxen_sys::hypercall::{DomainInfo, ShutdownReason};
use std::collections::BTreeMap;

pub struct Manager {
    journal: Journal,
    entries: BTreeMap<Uuid, Entry>,
}

/// Something to do about a domain that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub entry: Entry,
    pub domain: DomId,
    /// None if it vanished without a word.
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
        }
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

    /// Takes a name and a UUID for a domain that is about to be built.
    ///
    /// # Errors
    /// One of them is in use, or the journal cannot be written.
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
        self.put(Entry {
            uuid,
            config,
            state: State::Building,
            domain: None,
            pending: Vec::new(),
        })
    }

    /// The domain has a number.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn born(&mut self, uuid: Uuid, domain: DomId) -> Result<()> {
        self.change(uuid, |entry| entry.domain = Some(domain))
    }

    /// Notes a new state.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn set_state(&mut self, uuid: Uuid, state: State) -> Result<()> {
        self.change(uuid, |entry| entry.state = state)
    }

    /// Notes a new name.
    ///
    /// # Errors
    /// The name is in use, or the journal cannot be written.
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

    /// Takes a domain in hand to end it; nobody else may touch it from here on.
    ///
    /// # Errors
    /// Somebody else has it in hand, or the journal cannot be written.
    pub fn claim(&mut self, uuid: Uuid) -> Result<()> {
        let Some(entry) = self.entries.get(&uuid) else {
            return Ok(());
        };
        let busy = match entry.state {
            State::Running | State::Kept => return self.set_state(uuid, State::Ending),
            State::Building | State::Starting => "it is just being built",
            State::Ending | State::Restarting => "it is just being taken down",
        };
        Err(
            Error::new(format!("cannot end {}", entry.config.name), busy)
                .remedy("try again in a moment"),
        )
    }

    /// The domain is to be as `edit` makes it, from its next start on.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn reconfigure(&mut self, uuid: Uuid, edit: impl FnOnce(&mut DomainConfig)) -> Result<()> {
        self.change(uuid, |entry| edit(&mut entry.config))
    }

    /// What is left of a domain lives on under another name and UUID.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn preserve(&mut self, old: Uuid, new: Uuid, name: &str) -> Result<()> {
        let Some(mut entry) = self.entries.get(&old).cloned() else {
            return Ok(());
        };
        entry.uuid = new;
        entry.config.uuid = Some(new);
        entry.config.name = name.to_owned();
        entry.state = State::Kept;
        self.put(entry)?;
        self.forget(old)
    }

    /// The domain is no more.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn forget(&mut self, uuid: Uuid) -> Result<()> {
        self.entries.remove(&uuid);
        self.journal.remove(uuid)
    }

    /// Which of the running domains have ended, by what the hypervisor says. Each is returned once:
    /// its new state is noted.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn ended(&mut self, alive: &[DomainInfo]) -> Result<Vec<End>> {
        let alive: BTreeMap<DomId, &DomainInfo> =
            alive.iter().map(|info| (info.domain, info)).collect();
        // Whether it has, and why, where that is known.
        let end_of = |entry: &Entry| {
            let domain = entry.domain?;
            let info = alive.get(&domain);
            match info.filter(|info| info.handle == entry.uuid.0 && !info.dying()) {
                Some(info) => info.shutdown().map(|reason| (domain, Some(reason))),
                None => Some((domain, None)),
            }
        };
        let mut ends = Vec::new();
        let running = self.entries.values();
        let ended: Vec<_> = running
            .filter(|entry| entry.state == State::Running)
            .filter_map(|entry| end_of(entry).map(|end| (entry.clone(), end)))
            .collect();
        for (entry, (domain, reason)) in ended {
            let (verdict, warning) = match reason {
                Some(reason) => verdict(&entry.config.actions, reason),
                None => (Verdict::Destroy, None),
            };
            let state = match verdict {
                // It may be resumed, and run.
                Verdict::Wait => continue,
                Verdict::Preserve => State::Kept,
                Verdict::Destroy => State::Ending,
                Verdict::Restart | Verdict::RenameRestart => State::Restarting,
            };
            self.set_state(entry.uuid, state)?;
            ends.push(End {
                entry: Entry { state, ..entry },
                domain,
                reason,
                verdict,
                warning,
            });
        }
        Ok(ends)
    }

    /// The domain is to be built again, from nothing.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn rebuild(&mut self, uuid: Uuid) -> Result<()> {
        self.change(uuid, |entry| {
            entry.state = State::Building;
            entry.domain = None;
            entry.pending.clear();
        })
    }

    /// Notes what is about to be done to a device of a domain that runs.
    ///
    /// # Errors
    /// It does not run, something is being done to that device already, or the journal cannot be
    /// written.
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
        self.change(uuid, |entry| entry.pending.push(what))
    }

    /// It was done, or else undone; the configuration follows.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn settle(&mut self, uuid: Uuid, what: &Pending, done: bool) -> Result<()> {
        // If the domain has ended meanwhile, there is nothing to settle.
        if !self.entries.contains_key(&uuid) {
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
