//! Claims on entries, one thread an entry, and the entries that wait to be tried again. Nothing of
//! this outlives the daemon: its successor starts with every entry.

use super::Manager;
use crate::journal::{Entry, State};
use oxen_config::Uuid;
use oxen_domain::Error;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The longest pause, in looks, between two tries of a step that failed: one minute. The pause
/// doubles from one look on.
const MAX_PAUSE: u32 = 30;

#[derive(Default)]
pub(super) struct Hands {
    /// Claimed entries; true if the claim's work is to be given up.
    held: BTreeMap<Uuid, bool>,
    broken: BTreeMap<Uuid, Broken>,
}

/// An entry whose last step failed.
struct Broken {
    cause: String,
    /// Looks that remain to pass, and the length of the whole pause.
    wait: u32,
    pause: u32,
}

/// The outcome of a claim.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    /// There is no such entry.
    Gone,
    /// Another thread has claimed the entry. A build gives up soon.
    Busy,
    /// The caller has claimed the entry, which is in [`State::Ending`].
    Yours(Box<Entry>),
}

/// A claim on an entry, which ends when this is dropped.
pub struct Hold<'a> {
    manager: &'a Mutex<Manager>,
    uuid: Uuid,
}

impl<'a> Hold<'a> {
    /// The claim on an entry that was claimed for the caller.
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

    /// Claims the entries whose pause is over.
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

    /// Claims an entry whose work is to be started again. False if it is gone, or another thread
    /// has claimed it.
    #[must_use]
    pub fn take(&mut self, uuid: Uuid) -> bool {
        let free = self.entries.contains_key(&uuid) && !self.hands.has(uuid);
        if free {
            self.hands.take(uuid);
        }
        free
    }

    /// Whether a thread has claimed the entry.
    #[must_use]
    pub fn is_held(&self, uuid: Uuid) -> bool {
        self.hands.has(uuid)
    }

    /// Whether the thread that has claimed the entry is to give up.
    #[must_use]
    pub fn is_given_up(&self, uuid: Uuid) -> bool {
        self.hands.held.get(&uuid).copied().unwrap_or_default()
    }

    /// Notes that a step of the entry failed and is to be repeated. True if the failure is new.
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

    /// Notes that the entry is in order.
    pub fn mended(&mut self, uuid: Uuid) {
        self.hands.mended(uuid);
    }

    /// The reason why an entry is broken, if it is.
    #[must_use]
    pub fn broken(&self, uuid: Uuid) -> Option<&String> {
        self.hands.broken.get(&uuid).map(|broken| &broken.cause)
    }

    /// The entry of that name whose domain failed to end or to be built again.
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
