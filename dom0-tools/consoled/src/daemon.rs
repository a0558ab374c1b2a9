//! The daemon's loop.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use oxen_sys::daemon;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::Options;
use crate::clients::{Clients, Consoles};
use crate::console::{Console, Sinks};
use crate::log::Log;
use crate::machine::Machine;
use crate::pty::Pty;
use crate::rate::PAUSE;
use crate::replay::Replay;
use crate::store::{Place, StoreLink};

/// How often the daemon checks whether a client has waited long enough for a console.
const WAITING: Duration = Duration::from_millis(250);

pub(crate) struct Daemon {
    options: Options,
    machine: Machine,
    store: StoreLink,
    clients: Clients,
    guests: Guests,
    _lock: fs::File,
}

#[derive(Default)]
struct Guests(BTreeMap<u16, Guest>);

struct Guest {
    name: String,
    uuid: [u8; 16],
    place: Place,
    console: Console,
    port: u32,
    /// The guest's event was taken and is not yet unmasked.
    masked: bool,
    /// The guest's budget is spent until then.
    paused_until: Option<Instant>,
}

impl Daemon {
    pub(crate) fn start(options: Options) -> anyhow::Result<Self> {
        fs::create_dir_all(&options.state).with_context(|| options.state.display().to_string())?;
        let lock = daemon::lock(&options.state.join("lock"), daemon::PREDECESSOR)
            .context("its lock")?
            .context("another xenconsoled is running")?;
        let machine =
            Machine::open().context("no Xen devices (is this dom0, is xen-evtchn loaded?)")?;
        let listener = daemon::listen(&options.socket)
            .with_context(|| options.socket.display().to_string())?;
        listener.set_nonblocking(true)?;
        eprintln!("xenconsoled: started");
        Ok(Self {
            options,
            machine,
            store: StoreLink::new(Instant::now()),
            clients: Clients::new(listener),
            guests: Guests::default(),
            _lock: lock,
        })
    }

    pub(crate) fn run(&mut self) -> anyhow::Result<()> {
        let mut typed = BTreeSet::new();
        loop {
            let now = Instant::now();
            self.take_news(now);
            self.take_events();
            self.clients.take_in(&mut self.guests, now);
            let more = self.serve(now, &typed);
            self.clients.send();
            typed = self.wait(now, more)?;
        }
    }

    fn take_news(&mut self, now: Instant) {
        let news = self.store.news(now);
        if news.look_for_dead {
            let known = self.guests.0.keys().copied().chain(self.store.watched());
            for domain in self.machine.gone(known.collect()) {
                self.close(domain, now);
            }
        }
        if news.look_for_new {
            // A watch fires when it is set, and that event makes the daemon look.
            for domain in self.store.new_domains() {
                self.store.watch(domain);
            }
        }
        let changed: BTreeSet<u16> = news.changed.into_iter().collect();
        for domain in changed {
            self.look_at(domain, now);
        }
        let named: BTreeSet<u16> = news.named.into_iter().collect();
        for domain in named {
            self.rename(domain);
        }
    }

    /// Handles a change of a domain's name: later output goes to the log of the new name.
    fn rename(&mut self, domain: u16) {
        let Some(guest) = self.guests.0.get(&domain) else {
            return;
        };
        let (uuid, old) = (guest.uuid, guest.name.clone());
        let name = self.store.name(domain);
        if name == old {
            return;
        }
        let log = self.log(domain, &name, uuid);
        if let Some(guest) = self.guests.0.get_mut(&domain) {
            guest.name = name;
            guest.console.replace_log(log);
        }
    }

    /// Opens a domain's console, if it has one and it is not open there already.
    fn look_at(&mut self, domain: u16, now: Instant) {
        let place = self.store.place(domain);
        match (place, self.guests.0.get(&domain)) {
            (Some(place), Some(guest)) if guest.place == place => {}
            (Some(place), _) => {
                if self.guests.0.contains_key(&domain) {
                    self.close_ring(domain, now);
                }
                if let Err(error) = self.open(domain, place, now) {
                    eprintln!("xenconsoled: domain {domain}: {error:#}");
                }
            }
            (None, _) => {}
        }
    }

    fn open(&mut self, domain: u16, place: Place, now: Instant) -> anyhow::Result<()> {
        let uuid = self.machine.uuid(domain).context("it is gone already")?;
        let name = self.store.name(domain);
        let (page, port) = self
            .machine
            .connect(domain, &place)
            .context("its console cannot be reached")?;
        let sinks = self.sinks(domain, &name, uuid);
        let tty = sinks.pty.as_ref().map(|p| p.path().to_owned());
        let console = Console::open(page, sinks, now)
            .map_err(|fault| anyhow::anyhow!("its console: {fault}"))?;
        let guest = Guest {
            name,
            uuid,
            place,
            console,
            port,
            masked: false,
            paused_until: None,
        };
        self.guests.0.insert(domain, guest);
        if let Some(tty) = tty {
            self.store.write_tty(domain, &tty);
        }
        Ok(())
    }

    fn sinks(&self, domain: u16, name: &str, uuid: [u8; 16]) -> Sinks {
        let complain = |what: &str, error: &dyn core::fmt::Display| {
            eprintln!("xenconsoled: domain {domain} goes without {what}: {error}");
        };
        Sinks {
            log: self.log(domain, name, uuid),
            replay: Replay::open(&self.replay_path(domain), uuid)
                .inspect_err(|e| complain("replay after a restart", e))
                .unwrap_or_default(),
            pty: Pty::open().inspect_err(|e| complain("a terminal", e)).ok(),
            ..Sinks::default()
        }
    }

    /// A guest's log, which no other guest has. A guest that is restarted keeps its UUID and its
    /// log.
    fn log(&self, domain: u16, name: &str, uuid: [u8; 16]) -> Option<Log> {
        let limit = self.options.log_size.saturating_mul(1024);
        if limit == 0 {
            return None;
        }
        let taken = |path: &Path| {
            let mut others = self
                .guests
                .0
                .iter()
                .filter(|(number, _)| **number != domain);
            others.any(|(_, other)| other.uuid != uuid && other.console.log_path() == Some(path))
        };
        Log::open(&self.options.log_dir, name, uuid, limit, taken)
            .inspect_err(|e| eprintln!("xenconsoled: domain {domain} goes without a log: {e}"))
            .ok()
    }

    fn replay_path(&self, domain: u16) -> std::path::PathBuf {
        self.options.state.join(format!("{domain}.replay"))
    }

    /// Handles the end of a domain: clients get the last output, then the end.
    fn close(&mut self, domain: u16, now: Instant) {
        self.close_ring(domain, now);
        self.clients.console_ended(domain);
        self.store.unwatch(domain);
        // The file may not exist.
        let _ = fs::remove_file(self.replay_path(domain));
    }

    fn close_ring(&mut self, domain: u16, now: Instant) {
        if let Some(mut guest) = self.guests.0.remove(&domain) {
            if let Ok(turn) = guest.console.turn(now) {
                self.clients.output(domain, &turn.output);
            }
            // The other end may be gone already.
            let _ = self.machine.events.unbind(guest.port);
        }
    }

    /// Notes the guests that sent events. An event stays masked until its guest was served, so that
    /// a flood of events gets a guest no more attention than one event.
    fn take_events(&mut self) {
        match self.machine.events.read() {
            Ok(ports) => {
                for guest in self
                    .guests
                    .0
                    .values_mut()
                    .filter(|g| ports.contains(&g.port))
                {
                    guest.masked = true;
                    guest.console.rang();
                }
            }
            // Some events were lost: unmask all.
            Err(_) => self.guests.0.values_mut().for_each(|g| g.masked = true),
        }
    }

    /// Serves all guests. True if there is more to do at once. `typed` are the guests whose
    /// terminals have something: trying to read all terminals would make each turn as long as there
    /// are guests.
    fn serve(&mut self, now: Instant, typed: &BTreeSet<u16>) -> bool {
        let mut more = false;
        for (domain, guest) in &mut self.guests.0 {
            if typed.contains(domain) {
                guest.console.read_pty();
            }
            match guest.console.turn(now) {
                Ok(turn) => {
                    self.clients.output(*domain, &turn.output);
                    more |= turn.more;
                    guest.paused_until = turn.pause.then(|| now + PAUSE);
                    if turn.notify {
                        // A guest that cannot be notified is gone.
                        let _ = self.machine.events.notify(guest.port);
                    }
                }
                Err(fault) => {
                    eprintln!("xenconsoled: domain {domain} is not served any more: {fault}");
                    // The event stays masked forever.
                    guest.masked = false;
                }
            }
            if guest.masked && guest.paused_until.is_none() {
                guest.masked = false;
                if let Err(error) = self.machine.events.unmask(&[guest.port]) {
                    eprintln!("xenconsoled: domain {domain}: {error}");
                }
            }
        }
        more
    }

    /// Waits for work. Returns the guests whose terminals can be read.
    fn wait(&self, now: Instant, more: bool) -> anyhow::Result<BTreeSet<u16>> {
        let mut fds = self.clients.poll_fds(&self.guests);
        fds.push(PollFd::from_borrowed_fd(
            self.machine.as_fd(),
            PollFlags::IN,
        ));
        fds.extend(
            self.store
                .fd()
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
        );
        let ptys_from = fds.len();
        let mut with_pty = Vec::new();
        for (domain, guest) in &self.guests.0 {
            if let Some(pty) = guest.console.pty() {
                let mut flags = PollFlags::empty();
                flags.set(PollFlags::IN, guest.console.input_room() > 0);
                flags.set(PollFlags::OUT, guest.console.pty_waits());
                fds.push(PollFd::new(pty, flags));
                with_pty.push(*domain);
            }
        }
        let waiting = self.clients.are_waiting().then(|| now + WAITING);
        let paused = self.guests.0.values().filter_map(|g| g.paused_until).min();
        let until = [
            more.then_some(now),
            waiting,
            paused,
            self.store.wake_at(now),
        ]
        .into_iter()
        .flatten()
        .min();
        let timeout = until.map(|u| u.saturating_duration_since(Instant::now()));
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(BTreeSet::new()),
            Err(error) => return Err(error).context("poll"),
        }
        let ptys = with_pty.iter().zip(fds.iter().skip(ptys_from));
        Ok(ptys
            .filter(|(_, fd)| fd.revents().contains(PollFlags::IN))
            .map(|(domain, _)| *domain)
            .collect())
    }
}

impl Consoles for Guests {
    fn find(&self, domain: u16) -> Option<(String, Vec<u8>)> {
        self.0
            .get(&domain)
            .map(|g| (g.name.clone(), g.console.replay()))
    }

    fn input_room(&self, domain: u16) -> usize {
        self.0.get(&domain).map_or(0, |g| g.console.input_room())
    }

    fn type_in(&mut self, domain: u16, bytes: &[u8]) {
        if let Some(guest) = self.0.get_mut(&domain) {
            guest.console.type_in(bytes);
        }
    }
}
