//! A client of the store, for tools and daemons in dom0.
//!
//! Calls block. Replies come in order, so one request is under way at a time; watch events that
//! arrive meanwhile are queued for [`Client::next_event`]. Paths without a leading slash are
//! relative to the caller's own domain.
//!
//! When the daemon is restarted, a socket's watches and transactions are gone: the client gets an
//! I/O error ([`Error::is_disconnect`]), connects again and sets its watches again.

mod link;
mod request;

use core::fmt;
use core::time::Duration;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};

pub use crate::error::StoreError;
pub use crate::perms::{Access, DomId, Perm, Perms};
use crate::wire::{self, Kind};
use link::Link;
pub use request::Request;

/// The path of the daemon's socket.
pub const SOCKET: &str = "/run/xenstored/socket";
/// The environment variable that overrides the path of the socket.
pub const SOCKET_ENV: &str = "XENSTORED_PATH";
/// The kernel's own way to the store.
const XENBUS: &str = "/dev/xen/xenbus";

/// The reason why a call of the client failed.
#[derive(Debug)]
pub enum Error {
    /// The store refused.
    Store(StoreError),
    /// The connection failed.
    Io(io::Error),
    /// The reply violates the protocol.
    Protocol(&'static str),
}

pub type Result<T, E = Error> = core::result::Result<T, E>;

impl Error {
    /// Whether the connection was lost, so that connecting again may help.
    pub const fn is_disconnect(&self) -> bool {
        matches!(self, Self::Io(_))
    }

    /// The store's own error.
    pub const fn store(&self) -> Option<StoreError> {
        match self {
            Self::Store(error) => Some(*error),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => write!(f, "xenstore: {error}"),
            Self::Io(error) => write!(f, "xenstore connection: {error}"),
            Self::Protocol(what) => write!(f, "xenstore answered nonsense: {what}"),
        }
    }
}

impl core::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A change that a watch saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchEvent {
    pub path: String,
    pub token: String,
}

/// The requests that a client can make both alone and in a transaction.
pub trait Operations {
    /// Sends one request and waits for its reply.
    fn request(&mut self, kind: Kind, payload: &[u8]) -> Result<Vec<u8>>;

    fn read(&mut self, path: &str) -> Result<Vec<u8>> {
        self.request(Kind::Read, &nul(path))
    }

    /// A value as text.
    fn read_string(&mut self, path: &str) -> Result<String> {
        String::from_utf8(self.read(path)?).map_err(|_| Error::Protocol("a value is not text"))
    }

    /// A value as text, None when there is no such node.
    fn try_read(&mut self, path: &str) -> Result<Option<String>> {
        match self.read_string(path) {
            Err(Error::Store(StoreError::NoEnt)) => Ok(None),
            other => other.map(Some),
        }
    }

    fn exists(&mut self, path: &str) -> Result<bool> {
        match self.read(path) {
            Err(Error::Store(StoreError::NoEnt)) => Ok(false),
            other => other.map(|_| true),
        }
    }

    /// Writes a value; missing parents are made.
    fn write(&mut self, path: &str, value: impl AsRef<[u8]>) -> Result<()> {
        let mut payload = nul(path);
        payload.extend_from_slice(value.as_ref());
        self.request(Kind::Write, &payload).map(drop)
    }

    fn mkdir(&mut self, path: &str) -> Result<()> {
        self.request(Kind::Mkdir, &nul(path)).map(drop)
    }

    /// Removes a node and all below it. No error if it is not there but its parent is.
    fn rm(&mut self, path: &str) -> Result<()> {
        self.request(Kind::Rm, &nul(path)).map(drop)
    }

    /// The names of a node's children.
    fn directory(&mut self, path: &str) -> Result<Vec<String>> {
        match self.request(Kind::Directory, &nul(path)) {
            Err(Error::Store(StoreError::TooBig)) => self.long_directory(path),
            other => names(&other?),
        }
    }

    /// A directory that is longer than a message, part by part, from one state of the node.
    fn long_directory(&mut self, path: &str) -> Result<Vec<String>> {
        let mut generation = Vec::new();
        let mut list = Vec::new();
        loop {
            let mut payload = nul(path);
            payload.extend_from_slice(&nul(&list.len().to_string()));
            let answer = self.request(Kind::DirectoryPart, &payload)?;
            let end = answer
                .iter()
                .position(|b| *b == 0)
                .ok_or(Error::Protocol("no generation"))?;
            let (now, part) = answer.split_at(end);
            let part = &part[1..];
            if now != generation {
                generation = now.to_vec();
                if !list.is_empty() {
                    list.clear();
                    continue;
                }
            }
            // An empty name ends the list.
            let done = part.is_empty() || part == [0] || part.ends_with(&[0, 0]);
            list.extend_from_slice(part);
            if done {
                list.pop();
                return names(&list);
            }
        }
    }

    fn get_perms(&mut self, path: &str) -> Result<Perms> {
        let answer = self.request(Kind::GetPerms, &nul(path))?;
        let list: Result<Vec<Perm>> = names(&answer)?
            .iter()
            .map(|p| p.parse().map_err(|_| Error::Protocol("bad permission")))
            .collect();
        Perms::from_list(&list?).map_err(|_| Error::Protocol("no permissions"))
    }

    fn set_perms(&mut self, path: &str, perms: &Perms) -> Result<()> {
        let mut payload = nul(path);
        payload.extend_from_slice(&perms.encode());
        self.request(Kind::SetPerms, &payload).map(drop)
    }
}

/// A connection to the store.
#[derive(Debug)]
pub struct Client {
    link: Link,
    events: VecDeque<WatchEvent>,
    next_id: u32,
}

/// A reply, or the store's refusal.
pub type Answer = core::result::Result<Vec<u8>, StoreError>;

/// The number of requests that are sent before the first reply is awaited. The daemon queues more
/// replies than these have, so it never waits for the client while the client waits for it.
const TOGETHER: usize = 64;

impl Client {
    /// Connects by the daemon's socket (or the path in the environment), else through the kernel.
    pub fn connect() -> Result<Self> {
        let path = std::env::var_os(SOCKET_ENV).unwrap_or_else(|| SOCKET.into());
        match UnixStream::connect(&path) {
            Ok(socket) => Ok(Self::over(Link::socket(socket))),
            Err(error) => match File::options().read(true).write(true).open(XENBUS) {
                Ok(file) => Ok(Self::over(Link::xenbus(file))),
                Err(_) => Err(error.into()),
            },
        }
    }

    /// Connects by a socket, whatever the environment says.
    pub fn connect_to(socket: &Path) -> Result<Self> {
        Ok(Self::over(Link::socket(UnixStream::connect(socket)?)))
    }

    /// Connects by the socket, waiting while the daemon is not there (it may be restarting).
    pub fn connect_within(timeout: Duration) -> Result<Self> {
        let path = std::env::var_os(SOCKET_ENV).unwrap_or_else(|| SOCKET.into());
        let deadline = Instant::now() + timeout;
        loop {
            match UnixStream::connect(&path) {
                Ok(socket) => return Ok(Self::over(Link::socket(socket))),
                Err(error) if Instant::now() >= deadline => return Err(error.into()),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    const fn over(link: Link) -> Self {
        Self {
            link,
            events: VecDeque::new(),
            next_id: 1,
        }
    }

    /// The values of several nodes as text, None for each that is not there.
    pub fn try_read_all<'a>(
        &mut self,
        paths: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<Option<String>>> {
        let requests: Vec<Request> = paths.into_iter().map(Request::read).collect();
        let values = self.call_all(0, &requests)?.into_iter();
        values
            .map(|value| match value {
                Ok(value) => String::from_utf8(value)
                    .map(Some)
                    .map_err(|_| Error::Protocol("a value is not text")),
                Err(StoreError::NoEnt) => Ok(None),
                Err(error) => Err(Error::Store(error)),
            })
            .collect()
    }

    /// Starts a transaction. Dropping it without [`Transaction::commit`] gives it up.
    pub fn transaction(&mut self) -> Result<Transaction<'_>> {
        let answer = self.call(Kind::TransactionStart, 0, b"\0")?;
        let id = number(&answer)?;
        Ok(Transaction {
            client: self,
            id,
            open: true,
        })
    }

    /// Runs `work` in a transaction, again and again while others' changes collide with it.
    pub fn transact<T>(
        &mut self,
        mut work: impl FnMut(&mut Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        loop {
            let mut transaction = self.transaction()?;
            let done = work(&mut transaction)?;
            if transaction.commit()? {
                return Ok(done);
            }
        }
    }

    /// Sets a watch; it fires once at once. `path` may be `@introduceDomain` or `@releaseDomain`.
    pub fn watch(&mut self, path: &str, token: &str) -> Result<()> {
        self.call(Kind::Watch, 0, &[nul(path), nul(token)].concat())
            .map(drop)
    }

    pub fn unwatch(&mut self, path: &str, token: &str) -> Result<()> {
        self.call(Kind::Unwatch, 0, &[nul(path), nul(token)].concat())
            .map(drop)
    }

    /// An event that has arrived already, without reading from the connection.
    pub fn queued_event(&mut self) -> Option<WatchEvent> {
        self.events.pop_front()
    }

    /// Whether an event is queued. A queued event does not make the connection readable any more.
    pub fn has_queued_event(&self) -> bool {
        !self.events.is_empty()
    }

    /// The next event; None when the time is over (no time: wait for ever).
    pub fn next_event(&mut self, timeout: Option<Duration>) -> Result<Option<WatchEvent>> {
        let deadline = timeout.map(|t| Instant::now() + t);
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            if !self.readable(left)? {
                return Ok(None);
            }
            self.read_event()?;
        }
    }

    /// Reads what has arrived without waiting, for callers that poll [`AsFd`] themselves.
    pub fn drain(&mut self) -> Result<()> {
        while self.readable(Some(Duration::ZERO))? {
            self.read_event()?;
        }
        Ok(())
    }

    fn read_event(&mut self) -> Result<()> {
        let (header, payload) = self.link.receive()?;
        match Kind::from_number(header.kind) {
            Some(Kind::WatchEvent) => self.queue(&payload)?,
            _ => return Err(Error::Protocol("an answer to no request")),
        }
        self.settle()
    }

    /// Introduces a new domain to the store, with its ring's frame and its port.
    pub fn introduce(&mut self, domain: DomId, gfn: u64, port: u32) -> Result<()> {
        let payload = format!("{domain}\0{gfn}\0{port}\0");
        self.call(Kind::Introduce, 0, payload.as_bytes()).map(drop)
    }

    pub fn release(&mut self, domain: DomId) -> Result<()> {
        self.of_domain(Kind::Release, domain).map(drop)
    }

    /// The domain goes on after it shut down for suspend: its next shutdown is to be reported
    /// again.
    pub fn resume(&mut self, domain: DomId) -> Result<()> {
        self.of_domain(Kind::Resume, domain).map(drop)
    }

    pub fn set_target(&mut self, domain: DomId, target: DomId) -> Result<()> {
        self.call(
            Kind::SetTarget,
            0,
            format!("{domain}\0{target}\0").as_bytes(),
        )
        .map(drop)
    }

    pub fn get_domain_path(&mut self, domain: DomId) -> Result<String> {
        one_text(&self.of_domain(Kind::GetDomainPath, domain)?)
    }

    pub fn is_introduced(&mut self, domain: DomId) -> Result<bool> {
        Ok(self
            .of_domain(Kind::IsDomainIntroduced, domain)?
            .starts_with(b"T"))
    }

    /// Forgets all watches and transactions of this connection.
    pub fn reset_watches(&mut self) -> Result<()> {
        self.call(Kind::ResetWatches, 0, b"\0")?;
        self.events.clear();
        Ok(())
    }

    /// A command to the daemon itself; "help" lists them.
    pub fn control(&mut self, words: &[&str]) -> Result<String> {
        let payload: Vec<u8> = words.iter().flat_map(|w| nul(w)).collect();
        one_text(&self.call(Kind::Control, 0, &payload)?)
    }

    fn of_domain(&mut self, kind: Kind, domain: DomId) -> Result<Vec<u8>> {
        self.call(kind, 0, format!("{domain}\0").as_bytes())
    }

    fn call(&mut self, kind: Kind, tx_id: u32, payload: &[u8]) -> Result<Vec<u8>> {
        if payload.len() > wire::PAYLOAD_MAX {
            return Err(Error::Store(StoreError::TooBig));
        }
        let id = self.number();
        self.link.send(&wire::message(kind, id, tx_id, payload))?;
        let answer = self.answer(kind, id);
        self.settle()?;
        answer
    }

    /// Sends several requests at once, with one wait for all.
    fn call_all(&mut self, tx_id: u32, requests: &[Request]) -> Result<Vec<Answer>> {
        if requests
            .iter()
            .any(|it| it.payload.len() > wire::PAYLOAD_MAX)
        {
            return Err(Error::Store(StoreError::TooBig));
        }
        let together = if self.link.takes_several() {
            TOGETHER
        } else {
            1
        };
        let mut answers = Vec::with_capacity(requests.len());
        for some in requests.chunks(together) {
            let mut bytes = Vec::new();
            let mut sent = Vec::new();
            for Request { kind, payload } in some {
                let id = self.number();
                bytes.extend(wire::message(*kind, id, tx_id, payload));
                sent.push((*kind, id));
            }
            self.link.send(&bytes)?;
            for (kind, id) in sent {
                answers.push(match self.answer(kind, id) {
                    Err(Error::Store(error)) => Err(error),
                    other => Ok(other?),
                });
            }
        }
        self.settle()?;
        Ok(answers)
    }

    const fn number(&mut self) -> u32 {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        id
    }

    /// Waits for the reply to a request; events that arrive before it are queued.
    fn answer(&mut self, kind: Kind, id: u32) -> Result<Vec<u8>> {
        loop {
            let (header, payload) = self.link.receive()?;
            match Kind::from_number(header.kind) {
                Some(Kind::WatchEvent) => self.queue(&payload)?,
                _ if header.req_id != id => {
                    return Err(Error::Protocol("an answer to another request"));
                }
                Some(Kind::Error) => {
                    return Err(Error::Store(StoreError::from_name(&one_text(&payload)?)));
                }
                Some(answer) if answer == kind => return Ok(payload),
                _ => return Err(Error::Protocol("an answer of another kind")),
            }
        }
    }

    /// Queues events that were read beyond the reply, so that a caller that waits for the
    /// connection to be readable misses nothing.
    fn settle(&mut self) -> Result<()> {
        while let Some((header, payload)) = self.link.arrived()? {
            match Kind::from_number(header.kind) {
                Some(Kind::WatchEvent) => self.queue(&payload)?,
                _ => return Err(Error::Protocol("an answer to no request")),
            }
        }
        Ok(())
    }

    fn queue(&mut self, payload: &[u8]) -> Result<()> {
        let mut words = names(payload)?.into_iter();
        let (Some(path), Some(token)) = (words.next(), words.next()) else {
            return Err(Error::Protocol("a watch event without path and token"));
        };
        self.events.push_back(WatchEvent { path, token });
        Ok(())
    }

    fn readable(&self, timeout: Option<Duration>) -> Result<bool> {
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        loop {
            let mut fds = [PollFd::from_borrowed_fd(self.as_fd(), PollFlags::IN)];
            match rustix::event::poll(&mut fds, timeout.as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                other => return Ok(other.map_err(io::Error::from)? > 0),
            }
        }
    }
}

impl AsFd for Client {
    /// Readable when an event has arrived; look at [`Client::queued_event`] before waiting on it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

impl Operations for Client {
    fn request(&mut self, kind: Kind, payload: &[u8]) -> Result<Vec<u8>> {
        self.call(kind, 0, payload)
    }
}

/// A transaction under way.
#[derive(Debug)]
pub struct Transaction<'a> {
    client: &'a mut Client,
    id: u32,
    open: bool,
}

impl Transaction<'_> {
    /// Several requests, with one wait for all of their replies.
    pub fn all(&mut self, requests: &[Request]) -> Result<Vec<Answer>> {
        self.client.call_all(self.id, requests)
    }

    /// Makes all changes at once; false if others' changes collided and nothing was done.
    pub fn commit(mut self) -> Result<bool> {
        self.open = false;
        match self.client.call(Kind::TransactionEnd, self.id, b"T\0") {
            Err(Error::Store(StoreError::Again)) => Ok(false),
            other => other.map(|_| true),
        }
    }
}

impl Operations for Transaction<'_> {
    fn request(&mut self, kind: Kind, payload: &[u8]) -> Result<Vec<u8>> {
        self.client.call(kind, self.id, payload)
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.open {
            // Nothing can be done here if it fails; the daemon forgets it with the connection.
            let _ = self.client.call(Kind::TransactionEnd, self.id, b"F\0");
        }
    }
}

fn nul(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn names(payload: &[u8]) -> Result<Vec<String>> {
    let parts = wire::strings(payload).map_err(|_| Error::Protocol("a string without its end"))?;
    parts
        .into_iter()
        .map(|p| Ok(String::from_utf8_lossy(p).into_owned()))
        .collect()
}

fn one_text(payload: &[u8]) -> Result<String> {
    let end = payload
        .iter()
        .position(|b| *b == 0)
        .unwrap_or(payload.len());
    Ok(String::from_utf8_lossy(&payload[..end]).into_owned())
}

fn number(payload: &[u8]) -> Result<u32> {
    one_text(payload)?
        .parse()
        .map_err(|_| Error::Protocol("not a number"))
}
