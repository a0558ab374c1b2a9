//! Clients that watch or use consoles, through the daemon's socket.
//!
//! A client sends one line, `DOMID` or `DOMID noreplay`, and gets one: `ok NAME`, after which bytes
//! go both ways until the console or the client ends; or `error TEXT`. A client waits for a console
//! that does not exist yet: a client that has just created a domain may be faster than this daemon.

use core::time::Duration;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::queue::Queue;

/// How long a client may wait for its console.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most output that waits for a slow client, in bytes.
const QUEUE: usize = 1 << 20;
/// The longest first line.
const LINE: usize = 64;
/// The most clients at once.
const MOST: usize = 128;

pub(crate) struct Clients {
    listener: UnixListener,
    open: BTreeMap<u64, Client>,
    next: u64,
}

struct Client {
    stream: UnixStream,
    state: State,
    input: Vec<u8>,
    output: Queue,
    /// The client sends nothing more.
    ended: bool,
    broken: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first line has not arrived yet.
    New,
    Waiting {
        domain: u16,
        replay: bool,
        until: Instant,
    },
    Attached(u16),
    /// The queued bytes are still sent, then the connection is closed.
    Leaving,
}

/// The consoles, as clients see them.
pub(crate) trait Consoles {
    /// A console's name and what it printed last.
    fn find(&self, domain: u16) -> Option<(String, Vec<u8>)>;
    fn input_room(&self, domain: u16) -> usize;
    fn type_in(&mut self, domain: u16, bytes: &[u8]);
}

impl Clients {
    pub(crate) const fn new(listener: UnixListener) -> Self {
        Self {
            listener,
            open: BTreeMap::new(),
            next: 0,
        }
    }

    pub(crate) fn poll_fds<'a>(&'a self, consoles: &impl Consoles) -> Vec<PollFd<'a>> {
        let mut fds = vec![PollFd::from_borrowed_fd(
            self.listener.as_fd(),
            PollFlags::IN,
        )];
        for client in self.open.values() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, client.wants_input(consoles));
            flags.set(PollFlags::OUT, !client.output.is_empty());
            fds.push(PollFd::from_borrowed_fd(client.stream.as_fd(), flags));
        }
        fds
    }

    /// Whether a client waits for a console that does not exist yet.
    pub(crate) fn are_waiting(&self) -> bool {
        self.open
            .values()
            .any(|c| matches!(c.state, State::Waiting { .. }))
    }

    /// Takes new clients and new input, and ends waits that are over.
    pub(crate) fn take_in(&mut self, consoles: &mut impl Consoles, now: Instant) {
        while let Ok((stream, _)) = self.listener.accept() {
            // A client too many is disconnected at once.
            if self.open.len() < MOST && stream.set_nonblocking(true).is_ok() {
                self.open.insert(self.next, Client::new(stream));
                self.next = self.next.wrapping_add(1);
            }
        }
        for client in self.open.values_mut() {
            client.take_in(consoles);
            client.go_on(consoles, now);
        }
    }

    /// Sends a guest's output to the clients that watch its console.
    pub(crate) fn output(&mut self, domain: u16, bytes: &[u8]) {
        for client in self
            .open
            .values_mut()
            .filter(|c| c.state == State::Attached(domain))
        {
            client.output.push(bytes);
        }
    }

    /// Handles the end of a console: its clients get the rest of the output, then the end.
    pub(crate) fn console_ended(&mut self, domain: u16) {
        for client in self
            .open
            .values_mut()
            .filter(|c| c.state == State::Attached(domain))
        {
            client.state = State::Leaving;
        }
    }

    pub(crate) fn send(&mut self) {
        self.open.retain(|_, client| {
            client.send();
            let done = client.state == State::Leaving && client.output.is_empty();
            !(client.broken || done || client.ended && client.input.is_empty())
        });
    }
}

impl Client {
    fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            state: State::New,
            input: Vec::new(),
            output: Queue::new(QUEUE),
            ended: false,
            broken: false,
        }
    }

    fn wants_input(&self, consoles: &impl Consoles) -> bool {
        !self.ended
            && match self.state {
                State::New => true,
                // No input is wanted, but the client's end is to be noticed.
                State::Waiting { .. } => self.input.len() < LINE,
                State::Attached(domain) => consoles.input_room(domain) > 0,
                State::Leaving => false,
            }
    }

    fn take_in(&mut self, consoles: &impl Consoles) {
        if !self.wants_input(consoles) {
            // The client's end is not read here, but `poll` reports it again and again: so the
            // input that the client still wanted to type is lost with it.
            self.broken |= self.has_left();
            return;
        }
        let mut bytes = [0; 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => self.ended = true,
            Ok(got) => self.input.extend_from_slice(&bytes[..got]),
            Err(error)
                if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(_) => self.broken = true,
        }
    }

    /// Whether the other side is closed.
    fn has_left(&self) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(
            self.stream.as_fd(),
            PollFlags::empty(),
        )];
        let now = Timespec::default();
        let found = rustix::event::poll(&mut fds, Some(&now));
        let ended = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        found.is_ok_and(|n| n > 0) && fds[0].revents().intersects(ended)
    }

    fn go_on(&mut self, consoles: &mut impl Consoles, now: Instant) {
        if self.state == State::New {
            self.read_line(now);
        }
        if let State::Waiting {
            domain,
            replay,
            until,
        } = self.state
        {
            if let Some((name, printed)) = consoles.find(domain) {
                self.output.push(format!("ok {name}\n").as_bytes());
                if replay {
                    self.output.push(&printed);
                }
                self.state = State::Attached(domain);
            } else if now >= until || self.ended {
                self.refuse(&format!("domain {domain} has no console"));
            }
        }
        if let State::Attached(domain) = self.state {
            let room = consoles.input_room(domain).min(self.input.len());
            consoles.type_in(domain, &self.input[..room]);
            self.input.drain(..room);
        }
    }

    fn read_line(&mut self, now: Instant) {
        let Some(end) = self.input.iter().position(|b| *b == b'\n') else {
            if self.input.len() > LINE {
                self.refuse("the first line is too long");
            }
            return;
        };
        let line: Vec<u8> = self.input.drain(..=end).collect();
        let line = String::from_utf8_lossy(&line);
        let mut words = line.split_whitespace();
        let domain = words.next().and_then(|w| w.parse().ok());
        let replay = match words.next() {
            None => Some(true),
            Some("noreplay") => Some(false),
            Some(_) => None,
        };
        match (domain, replay) {
            (Some(domain), Some(replay)) => {
                let until = now.checked_add(PATIENCE).unwrap_or(now);
                self.state = State::Waiting {
                    domain,
                    replay,
                    until,
                };
            }
            _ => self.refuse("expected a domain's number, or a number and \"noreplay\""),
        }
    }

    fn refuse(&mut self, why: &str) {
        self.output.push(format!("error {why}\n").as_bytes());
        self.state = State::Leaving;
        self.input.clear();
    }

    fn send(&mut self) {
        let stream = &mut self.stream;
        let sent = self.output.send(|bytes| match stream.write(bytes) {
            Err(error)
                if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) =>
            {
                Ok(0)
            }
            other => other,
        });
        self.broken |= sent.is_err();
    }
}

#[cfg(test)]
mod tests;
