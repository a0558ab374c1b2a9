//! The daemon's loop.

mod log;
mod sockets;
mod xen;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use oxen_sys::daemon;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use xenstored::journal::{Format, Found, Journal};
use xenstored::server::{ConnId, Platform, Restored, Server};
use xenstored::turns;

use log::Told;
use sockets::Sockets;
use xen::{NoXen, Xen};

/// Requests of one process of dom0 that are handled before others' turn.
const SOCKET_TURN: usize = 64;

pub(crate) struct Daemon {
    server: Server,
    journal: Journal,
    machine: Machine,
    sockets: Sockets,
    told: Told,
    /// Guests are not served before.
    guests_rest: Option<Instant>,
}

/// With or without the hypervisor.
enum Machine {
    Xen(Box<Xen>),
    None(NoXen),
}

impl Machine {
    fn platform(&mut self) -> &mut dyn Platform {
        match self {
            Self::Xen(xen) => &mut **xen,
            Self::None(none) => none,
        }
    }
}

impl Daemon {
    pub(crate) fn start(
        socket: &Path,
        state: &Path,
        with_xen: bool,
        verbose: bool,
    ) -> anyhow::Result<Self> {
        let (mut journal, found) =
            Journal::open(state).with_context(|| format!("state directory {}", state.display()))?;
        let fresh = found.records.is_empty();
        let mut server = restore(found);
        server.log().io = verbose;
        let mut machine = if with_xen {
            Machine::Xen(Box::new(
                Xen::open().context("no Xen devices (is this dom0, is xen-evtchn loaded?)")?,
            ))
        } else {
            Machine::None(NoXen)
        };
        server.reconnect(machine.platform());
        if let Machine::Xen(xen) = &mut machine {
            xen.connect_dom0(&mut server).context("dom0's own ring")?;
            xen.resume(&mut server);
        }
        server.take_records();
        let mut told = Told::default();
        told.journal(journal.begin(&server.snapshot(), Instant::now()));
        // The journal's lock says that no other daemon serves the socket.
        let listener =
            daemon::listen(socket).with_context(|| format!("socket {}", socket.display()))?;
        listener.set_nonblocking(true)?;
        let sockets = Sockets::new(listener);
        eprintln!(
            "xenstored: {} with {} domains",
            if fresh { "started" } else { "restarted" },
            server.domains().len()
        );
        Ok(Self {
            server,
            journal,
            machine,
            sockets,
            told,
            guests_rest: None,
        })
    }

    pub(crate) fn run(&mut self) -> anyhow::Result<()> {
        let mut busy = true;
        loop {
            let ready = self.wait(busy)?;
            self.sockets.take_in(&ready, &mut self.server);
            if let Machine::Xen(xen) = &mut self.machine {
                xen.take_events(&mut self.server);
            }
            // dom0 comes first: its replies do not wait for guests' requests.
            self.serve_dom0();
            busy = self.finish();
            if self.serve_guests() {
                busy = self.finish();
            }
        }
    }

    /// Writes the journal, then sends the replies. True if processes of dom0 have more requests.
    fn finish(&mut self) -> bool {
        self.write_down();
        let more = self.sockets.send(&mut self.server);
        if let Machine::Xen(xen) = &mut self.machine {
            self.told.notices(&xen.send(&mut self.server));
        }
        self.told.notices(&self.server.take_notices());
        more
    }

    /// Waits until something arrives, or only looks when there is more to do. The sockets that are
    /// to be read.
    fn wait(&self, busy: bool) -> anyhow::Result<Vec<ConnId>> {
        let mut fds = self.sockets.poll_fds(&self.server);
        if let Machine::Xen(xen) = &self.machine {
            fds.push(PollFd::from_borrowed_fd(xen.as_fd(), PollFlags::IN));
        }
        let now = Instant::now();
        let until = if busy { Some(now) } else { self.wake_at(now) };
        let timeout = until.map(|until| timespec(until.saturating_duration_since(now)));
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error).context("poll"),
        }
        let readable = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        let sockets = self.sockets.ids().into_iter();
        let ready = sockets
            .zip(fds.iter().skip(1))
            .filter(|(_, fd)| fd.revents().intersects(readable));
        Ok(ready.map(|(id, _)| id).collect())
    }

    /// When there is something to do even if nothing arrives until then.
    fn wake_at(&self, now: Instant) -> Option<Instant> {
        let mut until = self.journal.retry_at();
        if let Machine::Xen(xen) = &self.machine {
            let rings = if xen.is_dom0_awake() {
                Some(now)
            } else {
                let rest = self.guests_rest.unwrap_or(now);
                xen.has_awake_guests().then_some(rest)
            };
            until = until.into_iter().chain(rings).min();
        }
        until
    }

    /// Handles a turn of the requests of dom0's processes and kernel.
    fn serve_dom0(&mut self) {
        for id in self.sockets.ids() {
            for _ in 0..SOCKET_TURN {
                if self.server.is_backed_up(id) {
                    break;
                }
                let Some((header, payload)) = self.sockets.next_request(id) else {
                    break;
                };
                if self.server.log().io {
                    log::request(&format!("{id:?}"), header, payload);
                }
                self.server
                    .receive(id, header, payload, self.machine.platform());
            }
        }
        if let Machine::Xen(xen) = &mut self.machine {
            xen.serve_dom0(&mut self.server);
        }
    }

    /// Handles a turn of guests' requests, unless they rest. True if it did.
    fn serve_guests(&mut self) -> bool {
        let Machine::Xen(xen) = &mut self.machine else {
            return false;
        };
        let start = Instant::now();
        if self.guests_rest.is_some_and(|until| until > start) {
            return false;
        }
        self.guests_rest = None;
        if !xen.has_awake_guests() {
            return false;
        }
        let used = xen.serve_guests(&mut self.server);
        let rest = turns::rest(used, start.elapsed());
        if !rest.is_zero() {
            self.guests_rest = Some(Instant::now() + rest);
        }
        true
    }

    /// If the journal cannot be written, the store goes on: only a restart would lose changes.
    fn write_down(&mut self) {
        let records = self.server.take_records();
        let all = || self.server.snapshot();
        self.told
            .journal(self.journal.save(&records, all, Instant::now()));
    }
}

/// The server that the journal describes. Records that make no sense are left out, with a line
/// each.
fn restore(found: Found) -> Server {
    /// The most lines; the rest is only counted.
    const LINES: usize = 8;
    if found.damaged > 0 {
        eprintln!(
            "xenstored: {} damaged parts of the journal are left out; what they changed is lost",
            found.damaged
        );
    }
    let Restored { mut server, aside } = Server::restore(found.records);
    if found.format == Format::WorldReadable {
        server.hide_what_everyone_could_read();
    }
    for record in aside.iter().take(LINES) {
        eprintln!("xenstored: left out of the journal, as it fits nothing before it: {record:?}");
    }
    if let Some(more) = aside.len().checked_sub(LINES).filter(|more| *more > 0) {
        eprintln!("xenstored: and {more} more records like these");
    }
    server
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
