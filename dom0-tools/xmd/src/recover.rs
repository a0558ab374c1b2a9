//! Recovery after a restart: the journal's intents are compared with the hypervisor's domains, and
//! finished or undone. Running guests are adopted as they are.
//!
//! An entry that cannot be settled is marked as broken: the watcher repeats the work, and clients
//! are served meanwhile.

use crate::journal::{Journal, State};
use crate::log::Log;
use crate::manager::Manager;
use crate::ops::Context;
use core::time::Duration;
use oxen_config::Uuid;
use oxen_devices::Spec;
use oxen_domain::world::World;
use oxen_domain::{Error, Result};
use oxen_sys::hypercall::DomainInfo;
use std::sync::{Mutex, PoisonError};

/// How often the hypervisor is called before recovery fails.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// Reads the journal and settles every entry. Returns the manager, and the domains that remain to
/// be built again; the caller has claimed them.
///
/// # Errors
/// `Error` if the journal's directory or the hypervisor cannot be read at all.
pub fn recover(world: &mut World<'_>, journal: Journal, log: &Log) -> Result<(Manager, Vec<Uuid>)> {
    let (entries, warnings) = journal.read()?;
    warnings.iter().for_each(|text| log.line(text));
    let alive = domains(world)?;
    let manager = Mutex::new(Manager::new(journal, entries.clone()));
    let (devices, cache) = (Mutex::new(()), oxen_domain::image::Cache::default());
    let mut context = Context {
        world: World {
            hypervisor: world.hypervisor,
            store: &mut *world.store,
            clock: world.clock,
        },
        manager: &manager,
        devices: &devices,
        log,
        cache: &cache,
        // Nothing is built here.
        random: || Err(Error::new("cannot make a uuid", "not at the start")),
        now: || 0,
        device: Spec::device,
        announce: &|_| {},
    };
    let mut restart = Vec::new();
    for entry in entries {
        log.line(&format!(
            "{}: found in the journal as {:?}, {}",
            entry.config.name,
            entry.state,
            exists(&alive, entry.uuid)
        ));
        if entry.state != State::Restarting {
            // A failure is noted.
            let _ = context.settle(entry.uuid);
        } else if context.manager().take(entry.uuid) {
            restart.push(entry.uuid);
        }
    }
    let _ = context.sweep_now();
    let manager = manager.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((manager, restart))
}

fn domains(world: &World<'_>) -> Result<Vec<DomainInfo>> {
    let mut tries = 0;
    loop {
        match world.hypervisor.domains() {
            Ok(domains) => return Ok(domains),
            Err(_) if tries < TRIES => {
                tries += 1;
                world.clock.sleep(PAUSE);
            }
            Err(errno) => return Err(Error::new("cannot list domains", errno)),
        }
    }
}

fn exists(alive: &[DomainInfo], uuid: Uuid) -> String {
    let mut alive = alive.iter();
    let found = alive.find(|info| info.handle == uuid.0 && !info.dying());
    found.map_or_else(
        || "does not exist".to_owned(),
        |info| format!("exists as domain {}", info.domain),
    )
}
