//! Claims on entries, one thread an entry, and the entries that wait to be tried again. Nothing of
//! this outlives the daemon: its successor starts with every entry.

use super::Manager;
use crate::journal::{Entry, State};
use oxen_config::Uuid;
use oxen_domain::Error;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// A step that failed is tried again at the next look, then at each second, fourth, ... and at last
/// at each of so many, which is a minute.
const MAX_PAUSE: u32 = 30;

#[derive(Default)]
pub(super) struct Hands {
    /// True where it is to be given up.
    held: BTreeMap<Uuid, bool>,
    broken: BTreeMap<Uuid, Broken>,
}

/// An entry whose last step failed.
struct Broken {
    cause: String,
    /// Looks to let pass, of how many.
    wait: u32,
    pause: u32,
}

/// The outcome of a claim.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    /// There is no such entry.
    Gone,
    /// Somebody else has it in hand. If it is being built, that is given up soon.
    Busy,
    /// The caller has claimed the entry, which is in [`State::Ending`].
    Yours(Box<Entry>),
}

/// An entry in hand, until this is dropped.
pub struct Hold<'a> {
    manager: &'a Mutex<Manager>,
    uuid: Uuid,
}

impl<'a> Hold<'a> {
    /// Of an entry that was taken in hand for the caller.
    #[must_use]
    pub fn of(manager: &'a Mutex<Manager>, uuid: Uuid) -> Self {
        Self { manager, uuid }
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let manager = self.manager.lock();
        let mut manager = manager.unwrap_or_else(PoisonError::into_inner);
        manager.hands.held.remove(&self.uuid);
    }
}

impl Hands {
    pub(super) fn take(&mut self, uuid: Uuid) {
        self.held.insert(uuid, false);
    }

    pub(super) fn has(&self, uuid: Uuid) -> bool {
        self.held.contains_key(&uuid)
    }

    pub(super) fn mended(&mut self, uuid: Uuid) {
        self.broken.remove(&uuid);
    }

    /// Takes those in hand whose time has come.
    pub(super) fn due(&mut self, entries: impl Iterator<Item = Uuid>) -> Vec<Uuid> {
        let mut due = Vec::new();
        for uuid in entries.filter(|uuid| !self.held.contains_key(uuid)) {
            match self.broken.get_mut(&uuid) {
                None => continue,
                Some(broken) if broken.wait > 0 => broken.wait -= 1,
                Some(_) => due.push(uuid),
            }
        }
        due.iter().for_each(|uuid| self.take(*uuid));
        due
    }
}

impl Manager {
    /// Claims an entry to end its domain. A thread that builds it is requested to give up.
    #[must_use]
    pub fn claim(&mut self, uuid: Uuid) -> Claim {
        if !self.entries.contains_key(&uuid) {
            return Claim::Gone;
        }
        if let Some(given_up) = self.hands.held.get_mut(&uuid) {
            *given_up = true;
            return Claim::Busy;
        }
        self.hands.take(uuid);
        self.ending(uuid);
        match self.entries.get(&uuid) {
            Some(entry) => Claim::Yours(Box::new(entry.clone())),
            None => Claim::Gone,
        }
    }

    /// Takes an entry in hand that is to be begun again. False if it is gone, or somebody has it.
    #[must_use]
    pub fn take(&mut self, uuid: Uuid) -> bool {
        let free = self.entries.contains_key(&uuid) && !self.hands.has(uuid);
        if free {
            self.hands.take(uuid);
        }
        free
    }

    /// Whether somebody works at it.
    #[must_use]
    pub fn is_held(&self, uuid: Uuid) -> bool {
        self.hands.has(uuid)
    }

    /// Whether the thread that has claimed the entry is to give up.
    #[must_use]
    pub fn is_given_up(&self, uuid: Uuid) -> bool {
        self.hands.held.get(&uuid).copied().unwrap_or_default()
    }

    /// A step of the entry failed: it will be tried again. True if that is news.
    pub fn broke(&mut self, uuid: Uuid, error: &Error) -> bool {
        if !self.entries.contains_key(&uuid) {
            return false;
        }
        let cause = error.to_string();
        let pause = self
            .hands
            .broken
            .get(&uuid)
            .map_or(0, |broken| broken.pause);
        let news = self.broken(uuid) != Some(&cause);
        let broken = Broken {
            cause,
            wait: pause,
            pause: (2 * pause).clamp(1, MAX_PAUSE),
        };
        self.hands.broken.insert(uuid, broken);
        news
    }

    /// All is well with it.
    pub fn mended(&mut self, uuid: Uuid) {
        self.hands.mended(uuid);
    }

    /// Why an entry is broken, if it is.
    #[must_use]
    pub fn broken(&self, uuid: Uuid) -> Option<&String> {
        self.hands.broken.get(&uuid).map(|broken| &broken.cause)
    }

    /// Of that name, and left over: a domain that failed to end or to be built again.
    #[must_use]
    pub fn left_over(&self, name: &str) -> Option<Uuid> {
        let is_left = |entry: &&Entry| {
            entry.config.name == name
                && matches!(entry.state, State::Ending | State::Restarting)
                && !self.hands.has(entry.uuid)
        };
        self.entries.values().find(is_left).map(|entry| entry.uuid)
    }
}
