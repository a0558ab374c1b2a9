//! The way to the store: bytes out, whole messages in.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use super::{Error, Result};
use crate::ring::first_message;
use crate::wire::Header;

/// Bytes that are read at once.
const CHUNK: usize = 4096;

#[derive(Debug)]
pub(super) struct Link {
    way: Way,
    /// Bytes that have arrived and are not taken yet.
    inbox: Vec<u8>,
    chunk: Box<[u8; CHUNK]>,
}

#[derive(Debug)]
enum Way {
    /// The daemon's own socket.
    Socket(UnixStream),
    /// The kernel's device.
    Xenbus(File),
}

impl Link {
    pub(super) fn socket(stream: UnixStream) -> Self {
        Self::over(Way::Socket(stream))
    }

    pub(super) fn xenbus(device: File) -> Self {
        Self::over(Way::Xenbus(device))
    }

    fn over(way: Way) -> Self {
        Self {
            way,
            inbox: Vec::new(),
            chunk: Box::new([0; CHUNK]),
        }
    }

    /// Whether several requests may be sent before the first reply. The kernel's device takes one
    /// at a time.
    pub(super) const fn takes_several(&self) -> bool {
        matches!(self.way, Way::Socket(_))
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.way {
            Way::Socket(socket) => socket.write_all(bytes),
            Way::Xenbus(device) => device.write_all(bytes),
        }
    }

    /// The next message; waits for it.
    pub(super) fn receive(&mut self) -> Result<(Header, Vec<u8>)> {
        loop {
            if let Some(message) = self.arrived()? {
                return Ok(message);
            }
            self.fill()?;
        }
    }

    /// A message that has been read already.
    pub(super) fn arrived(&mut self) -> Result<Option<(Header, Vec<u8>)>> {
        let first = first_message(&self.inbox);
        let first = first.map_err(|_| Error::Protocol("too long a message"))?;
        let Some(message) = first else {
            return Ok(None);
        };
        let (header, payload, len) = (message.header, message.payload.to_vec(), message.len);
        self.inbox.drain(..len);
        Ok(Some((header, payload)))
    }

    fn fill(&mut self) -> io::Result<()> {
        let way: &mut dyn Read = match &mut self.way {
            Way::Socket(socket) => socket,
            Way::Xenbus(device) => device,
        };
        loop {
            match way.read(&mut self.chunk[..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(got) => {
                    self.inbox
                        .extend_from_slice(self.chunk.get(..got).unwrap_or_default());
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.way {
            Way::Socket(socket) => socket.as_fd(),
            Way::Xenbus(device) => device.as_fd(),
        }
    }
}
