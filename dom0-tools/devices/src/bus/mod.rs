//! Attaching and detaching, for all kinds alike.

use crate::device::Device;
use crate::guest::Guest;
use crate::held::{self, Held};
use crate::kind::Kind;
use crate::state::State;
use crate::{backend, nodes, problem};
use core::time::Duration;
use oxen_domain::world::{DomId, Store};
use oxen_domain::{Error, Result};

/// How long dom0's driver may take to notice a device, to take what it is given, and to let go.
const DRIVER: Duration = Duration::from_secs(20);
/// How long the guest may take to connect, or to let go.
const GUEST: Duration = Duration::from_secs(30);
/// How long the guest may take to let go of a device that is removed in any case.
const FORCED: Duration = Duration::from_secs(5);

/// Attaches a device: afterwards dom0's driver has all that it needs, and the guest may connect now
/// or later. Returns warnings for the user.
///
/// # Errors
/// `Error` of the step that failed; nothing is left of the device.
pub fn attach(
    store: &mut dyn Store,
    guest: &Guest<'_>,
    device: &mut dyn Device,
) -> Result<Vec<String>> {
    let (kind, id) = (device.kind(), device.id());
    let what = format!("cannot give {} {} to {}", kind, kind.title(id), guest.name);
    if held::find(store, guest.domain, kind, id)?.is_some() {
        return Err(Error::new(what, "the guest has one of that name already")
            .remedy("choose another name, or detach that one"));
    }
    let nodes = device.claim(guest, store)?;
    let done = store
        .apply(&nodes::attach(guest, kind, id, &nodes))
        .and_then(|()| offer(store, guest, device, &what));
    if done.is_err() {
        // The first error says more than one of the clean-up.
        let _ = remove(store, guest.domain, kind, id);
    }
    done.map(|()| nodes.warnings)
}

fn offer(
    store: &mut dyn Store,
    guest: &Guest<'_>,
    device: &mut dyn Device,
    what: &str,
) -> Result<()> {
    let (kind, id) = (device.kind(), device.id());
    let place = Place::new(guest, kind, id, what);
    if !place.wait(store, DRIVER, |back, _| back >= State::InitWait)? {
        let cause = format!("dom0's driver {} does not answer", kind.module());
        return Err(Error::new(what, cause)
            .remedy(format!("modprobe {}; see dmesg in dom0", kind.module())));
    }
    let more = device.plug(guest)?;
    let mut changes = Vec::new();
    nodes::write_all(&mut changes, &nodes::back(guest.domain, kind, id), &more);
    store.apply(&changes)?;
    if place.wait(store, DRIVER, |_, _| device.is_plugged(guest))? {
        return Ok(());
    }
    let cause = "dom0's driver does not take what it is given";
    Err(Error::new(what, cause).remedy("see dmesg in dom0"))
}

/// Waits until the guest uses a device. Returns false if the time passes first; the guest may
/// connect later.
///
/// # Errors
/// `Error` with the driver's report if a driver gave up, or if the device was removed meanwhile.
pub fn connected(store: &mut dyn Store, guest: &Guest<'_>, kind: Kind, id: u32) -> Result<bool> {
    let what = format!("{} does not use {} {}", guest.name, kind, kind.title(id));
    Place::new(guest, kind, id, &what).wait(store, GUEST, |back, front| {
        back == State::Connected && front == State::Connected
    })
}

/// Whether a guest has let go of a disk that it still owns: its driver was unbound, and the back
/// end waits for a front end that starts again, or has already begun to ([`offer_again`]).
#[must_use]
pub fn is_let_go(held: &Held) -> bool {
    let was_used = !held.node("sectors").is_empty();
    held.kind == Kind::Vbd
        && held.node("online") == "1"
        && match (held.back_state, held.front_state) {
            (State::Closed, State::Closed) => true,
            (State::Closed | State::InitWait, State::Initialising) => was_used,
            _ => false,
        }
}

/// Makes a disk that its guest has let go of usable again, for when the guest binds its driver once
/// more. Linux's netfront reconnects by itself. Its blkfront starts only when the back end's state
/// is `Connected`. So the front end's state is set back first, which makes blkback ready, and then
/// the back end's node gets the state that blkfront waits for. blkback writes the same state when
/// both have connected.
///
/// # Errors
/// `Error` of the store.
pub fn offer_again(store: &mut dyn Store, domain: DomId, kind: Kind, id: u32) -> Result<bool> {
    let Some(held) = held::find(store, domain, kind, id)?.filter(is_let_go) else {
        return Ok(false);
    };
    let (front, back) = (
        nodes::front(domain, kind, id),
        nodes::back(domain, kind, id),
    );
    let mut changes = Vec::new();
    let state = |state: State| [("state", state.number().to_string())];
    nodes::write_all(&mut changes, &front, &state(State::Initialising));
    store.apply(&changes)?;
    let ready = store.wait(core::slice::from_ref(&back), DRIVER, &mut |store| {
        let value = store.read(&format!("{back}/state"))?;
        Ok(State::parse(value.as_deref()) != State::Closed)
    })?;
    let now = held::find(store, domain, held.kind, id)?;
    if !ready || now.is_none_or(|held| held.back_state != State::InitWait) {
        return Ok(false);
    }
    let mut changes = Vec::new();
    nodes::write_all(&mut changes, &back, &state(State::Connected));
    store.apply(&changes).map(|()| true)
}

/// Detaches a device. Without `force` the request is refused if the guest is known to use the
/// device, and the guest must let go.
///
/// With `force` the guest is notified too before dom0's driver ends: when Linux notices that a disk
/// is gone it writes its dirty buffers, and waits forever if the back end vanished without a word.
///
/// # Errors
/// `Error` with the reason if the guest uses the device or does not let go in time. The device is
/// then as it was, or goes away when the guest lets go.
pub fn detach(store: &mut dyn Store, guest: &Guest<'_>, held: &Held, force: bool) -> Result<()> {
    let (kind, id) = (held.kind, held.id);
    let what = format!("cannot take {} {} from {}", kind, held.name, guest.name);
    if !force && let Some(reason) = backend::busy(held) {
        let remedy = "unmount it in the guest, or take it away in spite of that with --force";
        return Err(Error::new(what, reason).remedy(remedy));
    }
    // A front end that was unbound never replies.
    let used = !matches!(
        held.front_state,
        State::Initialising | State::Closed | State::Unknown
    );
    if held.back_state == State::Connected && used {
        let limit = if force { FORCED } else { GUEST };
        let closed = close(store, guest, held, &what, limit);
        if !force {
            closed?;
        }
    }
    remove(store, guest.domain, kind, id)
}

/// Closes both sides in order: the back end is set to `Closing`, and the guest follows.
fn close(
    store: &mut dyn Store,
    guest: &Guest<'_>,
    held: &Held,
    what: &str,
    limit: Duration,
) -> Result<()> {
    let (domain, kind, id) = (guest.domain, held.kind, held.id);
    let mut changes = nodes::forget_errors(domain, kind, id);
    changes.extend(nodes::close(domain, kind, id));
    store.apply(&changes)?;
    let place = Place::new(guest, kind, id, what);
    let closed =
        |back, front| matches!(back, State::Closed | State::Unknown) || front == State::Unknown;
    if place.wait(store, limit, closed)? {
        return Ok(());
    }
    Err(Error::new(what, "the guest does not let go of it in time")
        .remedy("it goes away when the guest lets go; --force takes it away at once"))
}

/// Removes the nodes, waits until dom0's driver has let go, and releases what the driver used.
///
/// # Errors
/// `Error` of the store, an error if the driver does not let go, or the kernel's if something
/// cannot be released.
pub fn remove(store: &mut dyn Store, domain: DomId, kind: Kind, id: u32) -> Result<()> {
    let all = held::of_kind(store, domain, kind)?;
    let last = all.iter().all(|held| held.id == id);
    store.apply(&nodes::remove(domain, kind, id, last))?;
    match all.iter().find(|held| held.id == id) {
        Some(held) => released(store, held),
        None => Ok(()),
    }
}

/// Releases what the devices of a guest used whose nodes have been removed.
///
/// # Errors
/// The first `Error`; the other devices have been released nevertheless.
pub fn release(store: &mut dyn Store, devices: &[Held]) -> Result<()> {
    let mut result = Ok(());
    for held in devices {
        result = result.and(released(store, held));
    }
    result
}

/// Releases what a process that was killed took for devices that never came to be.
///
/// # Errors
/// `Error` of the store, or the kernel's if something does not end.
pub fn sweep(store: &mut dyn Store) -> Result<()> {
    for kind in Kind::ALL {
        backend::sweep(kind, &held::everywhere(store, kind)?)?;
    }
    Ok(())
}

/// Removes the nodes that dom0's driver wrote after a device was removed, once the driver is done.
fn forget_left_behind(store: &mut dyn Store, domain: DomId, kind: Kind) -> Result<()> {
    let mut changes = Vec::new();
    let left = held::left_behind(store, domain, kind)?;
    for id in left
        .iter()
        .filter(|id| !held::sysfs(domain, kind, **id).exists())
    {
        changes.extend(nodes::remove(domain, kind, *id, false));
    }
    if !changes.is_empty() && held::of_kind(store, domain, kind)?.is_empty() {
        changes.extend(nodes::forget_all(domain, kind));
    }
    store.apply(&changes)
}

fn released(store: &mut dyn Store, held: &Held) -> Result<()> {
    let gone = store.wait(&[], DRIVER, &mut |_| Ok(!held.sysfs().exists()))?;
    // A report that the driver wrote while it ended concerns nobody.
    store.apply(&nodes::forget_errors(held.domain, held.kind, held.id)[..1])?;
    forget_left_behind(store, held.domain, held.kind)?;
    if !gone {
        let what = format!(
            "cannot free {} {} of domain {}",
            held.kind, held.name, held.domain
        );
        return Err(Error::new(what, "dom0's driver does not let go of it")
            .remedy("see dmesg in dom0; xm log"));
    }
    backend::release(held)
}

/// A device that is being attached or detached.
struct Place<'a> {
    domain: DomId,
    kind: Kind,
    id: u32,
    what: &'a str,
}

impl<'a> Place<'a> {
    fn new(guest: &Guest<'_>, kind: Kind, id: u32, what: &'a str) -> Self {
        Self {
            domain: guest.domain,
            kind,
            id,
            what,
        }
    }

    /// Waits until `good` accepts the states of back end and front end. Returns false if the time
    /// passes first.
    ///
    /// # Errors
    /// `Error` with the driver's report if one gave up, or if the device vanished, as at the
    /// guest's end.
    fn wait(
        &self,
        store: &mut dyn Store,
        limit: Duration,
        mut good: impl FnMut(State, State) -> bool,
    ) -> Result<bool> {
        let front = nodes::front(self.domain, self.kind, self.id);
        let back = nodes::back(self.domain, self.kind, self.id);
        let [back_errors, front_errors] = nodes::errors(self.domain, self.kind, self.id);
        let paths = [
            format!("{front}/state"),
            format!("{back}/state"),
            back_errors,
            front_errors,
        ];
        store.wait(&paths, limit, &mut |store| {
            let mut state = |directory: &str| -> Result<State> {
                let value = store.read(&format!("{directory}/state"))?;
                Ok(State::parse(value.as_deref()))
            };
            let states = (state(&back)?, state(&front)?);
            if good(states.0, states.1) {
                return Ok(true);
            }
            match problem::reported(store, self.domain, self.kind, self.id)? {
                Some(cause) => Err(Error::new(self.what, cause)),
                None if states.0 == State::Unknown => {
                    Err(Error::new(self.what, "it was taken away meanwhile"))
                }
                None => Ok(false),
            }
        })
    }
}

#[cfg(test)]
mod tests;
