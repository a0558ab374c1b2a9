//! Processes of dom0, by the socket.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::event::{PollFd, PollFlags};
use xenstored::ring::{Message, first_message};
use xenstored::server::{ConnId, Server};
use xenstored::wire::Header;

/// Bytes that are read at once.
const CHUNK: usize = 8192;
/// Bytes of requests that wait here before a process is not read from any more.
const INPUT: usize = 64 * 1024;

pub(crate) struct Sockets {
    listener: UnixListener,
    open: BTreeMap<ConnId, Socket>,
    /// Where bytes are read to.
    chunk: Box<[u8; CHUNK]>,
}

struct Socket {
    stream: UnixStream,
    input: Vec<u8>,
    /// Bytes of it that were handed out as requests. They go together, not each by moving all that
    /// follows.
    used: usize,
    /// The connection ended or broke. Its requests still get replies, as far as the other end reads
    /// them.
    ended: bool,
    broken: bool,
}

impl Sockets {
    pub(crate) fn new(listener: UnixListener) -> Self {
        Self {
            listener,
            open: BTreeMap::new(),
            chunk: Box::new([0; CHUNK]),
        }
    }

    pub(crate) fn ids(&self) -> Vec<ConnId> {
        self.open.keys().copied().collect()
    }

    /// The listener, then the sockets in the order of [`Self::ids`].
    pub(crate) fn poll_fds<'a>(&'a self, server: &Server) -> Vec<PollFd<'a>> {
        let mut fds = vec![PollFd::from_borrowed_fd(
            self.listener.as_fd(),
            PollFlags::IN,
        )];
        for (id, socket) in &self.open {
            let mut flags = PollFlags::empty();
            flags.set(
                PollFlags::IN,
                socket.pending().len() < INPUT && !socket.ended,
            );
            flags.set(PollFlags::OUT, server.has_output(*id));
            fds.push(PollFd::from_borrowed_fd(socket.stream.as_fd(), flags));
        }
        fds
    }

    /// New connections, and what has arrived on those that are ready.
    pub(crate) fn take_in(&mut self, ready: &[ConnId], server: &mut Server) {
        while let Ok((stream, _)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                let id = server.open_socket();
                self.open.insert(
                    id,
                    Socket {
                        stream,
                        input: Vec::new(),
                        used: 0,
                        ended: false,
                        broken: false,
                    },
                );
            }
        }
        for id in ready {
            if let Some(socket) = self.open.get_mut(id) {
                socket.take_in(&mut self.chunk[..]);
            }
        }
        self.close_ended(server);
    }

    /// The next whole request.
    pub(crate) fn next_request(&mut self, id: ConnId) -> Option<(Header, &[u8])> {
        let socket = self.open.get_mut(&id)?;
        match first_message(socket.input.get(socket.used..).unwrap_or_default()) {
            Ok(Some(Message {
                header,
                payload,
                len,
            })) => {
                socket.used += len;
                Some((header, payload))
            }
            Ok(None) => None,
            Err(_) => {
                socket.broken = true;
                None
            }
        }
    }

    /// Sends what waits, as far as it goes. True if there are requests to serve at once.
    pub(crate) fn send(&mut self, server: &mut Server) -> bool {
        for (id, socket) in &mut self.open {
            let Some(outbox) = server.outbox(*id) else {
                continue;
            };
            while !outbox.is_empty() && !socket.broken {
                match socket.stream.write_vectored(&outbox.next_together()) {
                    Ok(sent) => outbox.advance(sent),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => socket.broken = true,
                }
            }
        }
        self.close_ended(server);
        let asks = |socket: &Socket| !matches!(first_message(socket.pending()), Ok(None));
        self.open
            .iter()
            .any(|(id, socket)| asks(socket) && !server.is_backed_up(*id))
    }

    fn close_ended(&mut self, server: &mut Server) {
        self.open.retain(|id, socket| {
            let asked = matches!(first_message(socket.pending()), Ok(Some(_)));
            let keep = !socket.broken && (!socket.ended || asked);
            if !keep {
                server.close_socket(*id);
            }
            keep
        });
    }
}

impl Socket {
    /// Bytes that have arrived and were not handed out.
    fn pending(&self) -> &[u8] {
        self.input.get(self.used..).unwrap_or_default()
    }

    fn take_in(&mut self, chunk: &mut [u8]) {
        self.input.drain(..self.used);
        self.used = 0;
        while self.input.len() < INPUT && !self.ended && !self.broken {
            match self.stream.read(chunk) {
                Ok(0) => self.ended = true,
                Ok(got) => {
                    self.input
                        .extend_from_slice(chunk.get(..got).unwrap_or_default());
                    // Further bytes make the socket ready again.
                    if got < chunk.len() {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.broken = true,
            }
        }
    }
}
