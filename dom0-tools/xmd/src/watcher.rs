//! Waiting for domains to end and for disks that guests let go of: the store notifies
//! (`@releaseDomain`, states of back ends), and regular looks cover the time in which it restarts.

use core::time::Duration;
use oxen_domain::world::DomId;
use std::collections::BTreeSet;
use std::time::Instant;
use xenstored::client::Client;

const LOOK_EVERY: Duration = Duration::from_secs(2);
const RECONNECT: Duration = Duration::from_millis(500);
/// The path below which states of disks change.
const DISKS: &str = "/local/domain/0/backend/vbd";
const ENDS: &str = "@releaseDomain";
/// The most changes that are kept from one look to the next, and so the most disks that can be let
/// go of at once.
const MAX_DISKS: usize = 4096;

/// A disk of a guest.
pub type Disk = (DomId, u32);

/// Calls `look` whenever a domain may have ended, and now and then; with disks whose state changed
/// before the look before, so that a disk that is about to vanish has had the time for it. Never
/// returns.
pub fn watch(mut look: impl FnMut(&BTreeSet<Disk>)) -> ! {
    let mut client: Option<Client> = None;
    let (mut changed, mut settled) = (BTreeSet::new(), BTreeSet::new());
    loop {
        look(&settled);
        settled = core::mem::take(&mut changed);
        if client.is_none() {
            client = connect();
        }
        let Some(open) = client.as_mut() else {
            std::thread::sleep(RECONNECT);
            continue;
        };
        if until_look(open, &mut changed).is_err() {
            client = None;
        }
    }
}

/// Waits for the time of the next look.
fn until_look(client: &mut Client, changed: &mut BTreeSet<Disk>) -> xenstored::client::Result<()> {
    let deadline = Instant::now() + LOOK_EVERY;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Some(event) = client.next_event(Some(left))? else {
            return Ok(());
        };
        if event.token == ENDS {
            return Ok(());
        }
        if let Some(disk) = disk(&event.path)
            && changed.len() < MAX_DISKS
        {
            changed.insert(disk);
        }
        if left.is_zero() {
            return Ok(());
        }
    }
}

fn connect() -> Option<Client> {
    let mut client = Client::connect_within(RECONNECT).ok()?;
    client.watch(ENDS, ENDS).ok()?;
    client.watch(DISKS, "disks").ok()?;
    Some(client)
}

/// The disk of a state node: `/local/domain/0/backend/vbd/DOMAIN/NUMBER/state`.
fn disk(path: &str) -> Option<Disk> {
    let rest = path.strip_prefix(DISKS)?.strip_prefix('/')?;
    let (place, _) = rest
        .split_once("/state")
        .filter(|(_, end)| end.is_empty())?;
    let (domain, id) = place.split_once('/')?;
    Some((domain.parse().ok()?, id.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::disk;

    #[test]
    fn states_are_told_from_other_nodes() {
        assert_eq!(
            disk("/local/domain/0/backend/vbd/7/51712/state"),
            Some((7, 51712))
        );
        for path in [
            "/local/domain/0/backend/vbd",
            "/local/domain/0/backend/vbd/7/51712/mode",
            "/local/domain/0/backend/vbd/7/51712/state/x",
            "/local/domain/0/backend/vbd/7/state",
            "/local/domain/7/device/vbd/51712/state",
        ] {
            assert_eq!(disk(path), None, "{path}");
        }
    }
}
