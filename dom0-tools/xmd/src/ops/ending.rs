//! Ends that are under way: a guest that ends by itself has lost its name before its devices are
//! released. Who wants it gone, or its name, waits for the rest.

use super::Context;
use crate::api::Subject;
use crate::journal::{Entry, State};
use core::time::Duration;
use oxen_domain::{Error, Result};

/// Drivers that do not let go are given up after twenty seconds each.
const PAUSE: Duration = Duration::from_millis(50);
const TRIES: u32 = 60 * 20;

impl Context<'_> {
    /// Waits until nothing is left of a domain that is just being taken down. None if there is no such
    /// one.
    ///
    /// # Errors
    /// It does not end.
    pub(super) fn await_end(&self, wanted: &str) -> Result<Option<Subject>> {
        let number = wanted.parse().ok();
        let is_meant = |entry: &&Entry| {
            entry.state == State::Ending
                && (entry.config.name == wanted || number.is_some() && entry.domain == number)
        };
        let Some(entry) = self.manager().entries().find(is_meant).cloned() else {
            return Ok(None);
        };
        for _ in 0..TRIES {
            if self.manager().entries().all(|it| it.uuid != entry.uuid) {
                return Ok(Some(Subject {
                    domain: entry.domain.unwrap_or_default(),
                    name: entry.config.name,
                    uuid: entry.uuid,
                }));
            }
            self.world.clock.sleep(PAUSE);
        }
        let what = format!("{} is still being taken down", entry.config.name);
        Err(Error::new(what, "a driver in dom0 does not let go of it")
            .remedy("see xm log, and dmesg in dom0"))
    }
}
