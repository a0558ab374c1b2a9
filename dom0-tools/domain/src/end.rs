//! The end of domains: taking one down without a trace, and the action of its configuration when it
//! ends by itself.

use crate::Result;
use crate::nodes;
use crate::world::{DomId, Hypervisor, Store, World, explain};
use core::time::Duration;
use oxen_config::{Action, Actions, Uuid};
use oxen_sys::Errno;
use oxen_sys::hypercall::ShutdownReason;

/// How often and how long the hypervisor is polled until a domain is gone: the daemons that map its
/// pages let go a moment later, most often within the first of these.
const TRIES: u32 = 250;
const FIRST_PAUSE: Duration = Duration::from_micros(200);
const PAUSE: Duration = Duration::from_millis(20);

/// The progress of a domain's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erased {
    Gone,
    /// The domain is dead and has given up its memory, but another domain still maps a page of it.
    Lingers,
}

/// Destroys a domain and removes its nodes. No error if the domain does not exist.
///
/// # Errors
/// `Error` of the hypervisor or the store; the other steps have been done nevertheless.
pub fn erase(world: &mut World<'_>, domain: DomId, uuid: Option<Uuid>) -> Result<Erased> {
    take_down(world, domain, uuid)?;
    wait_until_gone(world, domain)
}

/// Destroys a domain and removes its nodes, without waiting for domains that still map pages of it.
///
/// # Errors
/// `Error` of the hypervisor or the store; the other steps have been done nevertheless.
pub fn take_down(world: &mut World<'_>, domain: DomId, uuid: Option<Uuid>) -> Result<()> {
    let destroyed = destroy(world, domain);
    // xenstored notices the end by itself too, so a refusal here is no error.
    let _ = world.store.release(domain);
    let forgotten = world.store.apply(&nodes::remove(domain, uuid));
    destroyed?;
    forgotten
}

fn destroy(world: &World<'_>, domain: DomId) -> Result<()> {
    let mut tries = 0;
    loop {
        match world.hypervisor.destroy(domain) {
            Ok(()) | Err(Errno::SRCH) => return Ok(()),
            Err(Errno::AGAIN | Errno::INTR | Errno::BUSY) if tries < TRIES => {
                tries += 1;
                world.clock.sleep(PAUSE);
            }
            Err(errno) => return Err(explain(format!("cannot destroy domain {domain}"), errno)),
        }
    }
}

/// Waits until a domain that was taken down is gone.
///
/// # Errors
/// `Error` if the hypervisor does not answer.
pub fn wait_until_gone(world: &World<'_>, domain: DomId) -> Result<Erased> {
    let mut pause = FIRST_PAUSE;
    for _ in 0..TRIES {
        match world.hypervisor.info(domain) {
            Err(Errno::SRCH) => return Ok(Erased::Gone),
            Err(errno) => return Err(explain(format!("cannot ask after domain {domain}"), errno)),
            Ok(_) => world.clock.sleep(pause),
        }
        pause = (pause * 2).min(PAUSE);
    }
    Ok(Erased::Lingers)
}

/// The treatment of a domain that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Destroy,
    Restart,
    /// Keep the rest under another name, and start the domain again.
    RenameRestart,
    /// Keep it.
    Preserve,
    /// The domain waits to be saved or resumed.
    Wait,
}

/// The verdict, and a warning where the configured action is not supported.
#[must_use]
pub fn verdict(actions: &Actions, reason: ShutdownReason) -> (Verdict, Option<&'static str>) {
    let action = match reason {
        ShutdownReason::Poweroff => actions.poweroff,
        ShutdownReason::Reboot => actions.reboot,
        ShutdownReason::Suspend => return (Verdict::Wait, None),
        ShutdownReason::Watchdog => actions.watchdog,
        ShutdownReason::SoftReset => actions.soft_reset,
        // An unknown reason is no clean end.
        ShutdownReason::Crash | ShutdownReason::Other(_) => actions.crash,
    };
    let no_dump = Some("core dumps are not supported yet: none is written");
    match action {
        Action::Destroy => (Verdict::Destroy, None),
        Action::Restart => (Verdict::Restart, None),
        Action::RenameRestart => (Verdict::RenameRestart, None),
        Action::Preserve => (Verdict::Preserve, None),
        Action::CoredumpDestroy => (Verdict::Destroy, no_dump),
        Action::CoredumpRestart => (Verdict::Restart, no_dump),
        Action::SoftReset => (
            Verdict::Restart,
            Some("soft reset is not supported yet: the guest is started anew"),
        ),
    }
}

/// The word for a reason.
#[must_use]
pub fn reason_word(reason: ShutdownReason) -> &'static str {
    match reason {
        ShutdownReason::Poweroff => "poweroff",
        ShutdownReason::Reboot => "reboot",
        ShutdownReason::Suspend => "suspend",
        ShutdownReason::Crash => "crash",
        ShutdownReason::Watchdog => "watchdog",
        ShutdownReason::SoftReset => "soft-reset",
        ShutdownReason::Other(_) => "unknown",
    }
}

/// Homes in the store whose domain does not exist any more, with the UUIDs they name.
///
/// # Errors
/// `Error` if the hypervisor or the store does not answer.
pub fn orphans(
    hypervisor: &dyn Hypervisor,
    store: &mut dyn Store,
) -> Result<Vec<(DomId, Option<Uuid>)>> {
    let listed = store.list("/local/domain")?;
    let alive = hypervisor
        .domains()
        .map_err(|errno| explain("cannot list domains", errno))?;
    let mut orphans = Vec::new();
    for domain in listed.iter().filter_map(|name| name.parse::<DomId>().ok()) {
        if domain == 0 || alive.iter().any(|info| info.domain == domain) {
            continue;
        }
        let vm = store.read(&format!("{}/vm", nodes::home(domain)))?;
        let uuid = vm.and_then(|path| path.rsplit('/').next().and_then(|uuid| uuid.parse().ok()));
        orphans.push((domain, uuid));
    }
    Ok(orphans)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_apart() {
        let actions = Actions {
            crash: Action::CoredumpRestart,
            watchdog: Action::Preserve,
            reboot: Action::RenameRestart,
            ..Actions::default()
        };
        let verdict = |reason| verdict(&actions, reason).0;
        assert_eq!(verdict(ShutdownReason::Poweroff), Verdict::Destroy);
        assert_eq!(verdict(ShutdownReason::Reboot), Verdict::RenameRestart);
        assert_eq!(verdict(ShutdownReason::Suspend), Verdict::Wait);
        assert_eq!(verdict(ShutdownReason::Crash), Verdict::Restart);
        assert_eq!(verdict(ShutdownReason::Other(77)), Verdict::Restart);
        assert_eq!(verdict(ShutdownReason::Watchdog), Verdict::Preserve);
        assert_eq!(verdict(ShutdownReason::SoftReset), Verdict::Restart);
    }

    #[test]
    fn what_is_not_supported_is_said() {
        let actions = Actions {
            crash: Action::CoredumpDestroy,
            ..Actions::default()
        };
        assert!(verdict(&actions, ShutdownReason::Crash).1.is_some());
        assert!(verdict(&actions, ShutdownReason::SoftReset).1.is_some());
        assert!(verdict(&actions, ShutdownReason::Poweroff).1.is_none());
    }
}
