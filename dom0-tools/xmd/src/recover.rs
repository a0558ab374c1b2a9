//! After a restart: what the journal meant to do is compared with what the hypervisor has, and
//! finished or undone. Guests that run are adopted as they are.

use crate::devices;
use crate::journal::{Entry, Journal, State};
use crate::log::Log;
use crate::manager::Manager;
use oxen_config::Uuid;
use oxen_devices::{bus, held};
use oxen_domain::build::World;
use oxen_domain::end;
use oxen_domain::ports::DomId;
use oxen_domain::{Error, Result};

/// Reads the journal and sets things right. Besides the manager it returns the domains that remain to
/// be built again.
///
/// # Errors
/// The hypervisor, the store or the journal cannot be asked.
pub fn recover(world: &mut World<'_>, journal: Journal, log: &Log) -> Result<(Manager, Vec<Uuid>)> {
    let (entries, bad) = journal.read()?;
    for path in bad {
        log.line(&format!("{path} cannot be understood and is left alone"));
    }
    let alive = world
        .hypervisor
        .domains()
        .map_err(|errno| Error::new("cannot list domains", errno))?;
    let find = |entry: &Entry| {
        alive
            .iter()
            .find(|info| info.handle == entry.uuid.0 && !info.dying())
            .map(|info| info.domain)
    };
    let mut manager = Manager::new(journal, entries.clone());
    let mut restart = Vec::new();
    for entry in entries {
        let domain = find(&entry);
        log.line(&format!(
            "{}: found in the journal as {:?}, {}",
            entry.config.name,
            entry.state,
            exists(domain)
        ));
        match (entry.state, domain) {
            (State::Running | State::Kept, Some(domain)) => {
                manager.born(entry.uuid, domain)?;
                devices::recover(world.store, &mut manager, &entry, domain, log)?;
            }
            (State::Starting, Some(domain)) => {
                let started = world.hypervisor.unpause(domain);
                started
                    .map_err(|errno| Error::new(format!("cannot start domain {domain}"), errno))?;
                manager.born(entry.uuid, domain)?;
                manager.set_state(entry.uuid, State::Running)?;
            }
            (State::Restarting, domain) => {
                erase(world, &entry, domain)?;
                restart.push(entry.uuid);
            }
            (State::Building | State::Ending, domain) | (_, domain @ None) => {
                erase(world, &entry, domain)?;
                manager.forget(entry.uuid)?;
            }
        }
    }
    for (domain, uuid) in end::orphans(world.hypervisor, world.store)? {
        log.line(&format!(
            "domain {domain} is gone and its nodes are not: they are removed"
        ));
        let ours = uuid.filter(|uuid| manager.entries().all(|entry| entry.uuid != *uuid));
        let held = held::of_domain(world.store, domain)?;
        world
            .store
            .apply(&oxen_domain::nodes::remove(domain, ours))?;
        bus::release(world.store, &held)?;
    }
    if let Err(error) = bus::sweep(world.store) {
        log.line(&error.to_string());
    }
    Ok((manager, restart))
}

fn exists(domain: Option<DomId>) -> String {
    domain.map_or_else(
        || "does not exist".to_owned(),
        |domain| format!("exists as domain {domain}"),
    )
}

/// Takes down what there is: by the number it has, else by the number it had.
fn erase(world: &mut World<'_>, entry: &Entry, domain: Option<DomId>) -> Result<()> {
    match (domain, entry.domain) {
        (Some(domain), _) => {
            let held = held::of_domain(world.store, domain)?;
            end::erase(world, domain, Some(entry.uuid))?;
            bus::release(world.store, &held)
        }
        // The number may belong to another domain by now: only nodes that name this one are removed.
        (None, Some(domain)) => {
            let vm = world
                .store
                .read(&format!("{}/vm", oxen_domain::nodes::home(domain)))?;
            if vm.is_some_and(|vm| vm == oxen_domain::nodes::vm(entry.uuid)) {
                let held = held::of_domain(world.store, domain)?;
                world
                    .store
                    .apply(&oxen_domain::nodes::remove(domain, Some(entry.uuid)))?;
                return bus::release(world.store, &held);
            }
            Ok(())
        }
        (None, None) => Ok(()),
    }
}
