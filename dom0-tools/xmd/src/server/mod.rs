//! The server of the socket: one thread for each connection, which is kept for another one
//! afterwards, and one line for each request.

mod listeners;
mod places;

use crate::log::Log;
use crate::manager::{Manager, Work};
use crate::ops::Context;
use crate::watcher::Disk;
use core::time::Duration;
use oxen_devices::Spec;
use oxen_domain::live::{Xen, XenStore};
use oxen_domain::world::WallClock;
use oxen_domain::world::World;
use oxen_domain::{Error, Result};
use oxen_sys::daemon;
use rustix::event::{PollFd, PollFlags, poll};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use xmd_api::{Body, Event, MAX_LINE, Op, Reply, Request};

pub use listeners::Listeners;
pub use places::Places;

/// How often the server checks whether a client that waits for events has left.
const LOOK: Duration = Duration::from_secs(1);
/// The time after which a client that does not read is disconnected.
const STUCK: Duration = Duration::from_secs(30);

/// Threads that are kept for the next client, each with its connection to the store.
const MAX_IDLE: usize = 4;

/// The state that all threads share.
pub struct Daemon {
    pub xen: Xen,
    pub manager: Mutex<Manager>,
    pub devices: Mutex<()>,
    pub log: Log,
    pub cache: oxen_domain::image::Cache,
    pub listeners: Listeners,
    pub places: Places,
    /// Threads that wait for a client.
    pub idle: Mutex<Vec<Sender<(u64, UnixStream)>>>,
}

impl Daemon {
    /// Runs `work` with a store of its own.
    pub fn with_context<T>(
        &self,
        store: &mut XenStore,
        work: impl FnOnce(&mut Context<'_>) -> T,
    ) -> T {
        let announce = |event: Event| self.listeners.announce(&event);
        let mut context = Context {
            world: World {
                hypervisor: &self.xen,
                store,
                clock: &WallClock,
            },
            manager: &self.manager,
            devices: &self.devices,
            log: &self.log,
            cache: &self.cache,
            random,
            now,
            device: Spec::device,
            announce: &announce,
        };
        work(&mut context)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Sender<(u64, UnixStream)>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks for work, and does each piece in a separate thread, because a restart takes a while.
pub fn look(daemon: &Arc<Daemon>, store: &mut XenStore, disks: &BTreeSet<Disk>) {
    daemon.cache.drop_unused();
    for disk in disks {
        let let_go = daemon.with_context(store, |context| context.is_let_go(*disk));
        if let_go.unwrap_or_default() {
            attend(daemon, Work::Offer(*disk));
        }
    }
    match daemon.with_context(store, |context| context.look()) {
        Ok(work) => work.into_iter().for_each(|work| attend(daemon, work)),
        Err(error) => daemon.log.line(&error.to_string()),
    }
}

fn attend(daemon: &Arc<Daemon>, work: Work) {
    let daemon = Arc::clone(daemon);
    std::thread::spawn(move || {
        let mut store = XenStore::lazy();
        // The failure is in the log already, and a later look repeats the work.
        let _ = daemon.with_context(&mut store, |context| context.finish(&work));
    });
}

/// Listens on a socket that only root can reach.
///
/// # Errors
/// `Error` if the socket cannot be made.
pub fn listen(path: &Path) -> Result<UnixListener> {
    daemon::listen(path)
        .map_err(|error| Error::new(format!("cannot listen on {}", path.display()), error))
}

/// Serves clients. Never returns.
pub fn serve(daemon: &Arc<Daemon>, listener: &UnixListener) -> ! {
    loop {
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        let Some(place) = daemon.places.enter(&stream) else {
            let error =
                Error::new("xmd is busy", "too many clients").remedy("try again in a moment");
            let _ = send(&stream, 0, Body::Error(error));
            continue;
        };
        let idle = daemon.idle().pop();
        // A thread that ended meanwhile returns the client.
        let refused = match idle {
            Some(thread) => thread.send((place, stream)).err().map(|error| error.0),
            None => Some((place, stream)),
        };
        if let Some((place, stream)) = refused {
            let daemon = Arc::clone(daemon);
            std::thread::spawn(move || work(&daemon, place, stream));
        }
    }
}

/// One client after the other: thread and connection to the store are kept for the next one.
fn work(daemon: &Daemon, mut place: u64, mut stream: UnixStream) {
    let mut store = XenStore::lazy();
    let (me, next) = channel();
    loop {
        // A client that goes away has its reply already, or does not want it.
        let _ = converse(daemon, place, &stream, &mut store);
        drop(stream);
        daemon.places.leave(place);
        {
            let mut idle = daemon.idle();
            if idle.len() >= MAX_IDLE {
                return;
            }
            idle.push(me.clone());
        }
        match next.recv() {
            Ok(client) => (place, stream) = client,
            Err(_) => return,
        }
    }
}

fn converse(
    daemon: &Daemon,
    place: u64,
    stream: &UnixStream,
    store: &mut XenStore,
) -> std::io::Result<()> {
    stream.set_write_timeout(Some(STUCK))?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        if reader
            .by_ref()
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)?
            == 0
        {
            return Ok(());
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let request: Request = match serde_json::from_slice(&line) {
            Ok(request) => request,
            Err(error) => {
                let error = Error::new("cannot understand the request", error)
                    .remedy("see the description of the API");
                send(stream, 0, Body::Error(error))?;
                if line.last() != Some(&b'\n') {
                    return Ok(());
                }
                continue;
            }
        };
        let id = request.id;
        daemon.places.set_busy(place, true);
        if request.op == Op::Events {
            return events(daemon, stream, id);
        }
        let mut tell = |event| drop(send(stream, id, Body::Event(event)));
        let result = daemon.with_context(store, |context| context.perform(request.op, &mut tell));
        send(stream, id, result.map_or_else(Body::Error, Body::Ok))?;
        daemon.places.set_busy(place, false);
    }
}

/// Sends events until the client leaves.
fn events(daemon: &Daemon, stream: &UnixStream, id: u64) -> std::io::Result<()> {
    let listening = daemon.listeners.listen();
    loop {
        match listening.events.recv_timeout(LOOK) {
            Ok(event) => send(stream, id, Body::Event(event))?,
            Err(RecvTimeoutError::Timeout) if has_left(stream) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Whether the client has closed the connection. A client that has only ended its sending has not.
fn has_left(stream: &UnixStream) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::empty())];
    let looked = poll(&mut fds, Some(&rustix::event::Timespec::default()));
    let gone = PollFlags::HUP | PollFlags::ERR;
    looked.is_ok() && fds.iter().any(|fd| fd.revents().intersects(gone))
}

fn send(mut stream: &UnixStream, id: u64, body: Body) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(&Reply { id, body })?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn random() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| Error::new("cannot make a uuid", error))?;
    Ok(bytes)
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Shutdown;

    #[test]
    fn who_has_left_is_noticed_without_an_event() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        assert!(!has_left(&ours));
        theirs
            .shutdown(Shutdown::Write)
            .expect("it sends nothing more");
        assert!(!has_left(&ours));
        drop(theirs);
        assert!(has_left(&ours));
    }
}
