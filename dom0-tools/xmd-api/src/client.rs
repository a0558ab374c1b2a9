//! The client's side of the socket.

use crate::{Body, Event, Op, Reply, Request};
use oxen_domain::{Error, Result};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// A connection to the daemon.
pub struct Client {
    stream: BufReader<UnixStream>,
    next: u64,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// `Error` if the daemon is not running, or the user may not connect.
    pub fn connect() -> Result<Self> {
        let path = std::env::var_os(crate::SOCKET_ENV)
            .map_or_else(|| PathBuf::from(crate::SOCKET), PathBuf::from);
        match UnixStream::connect(&path) {
            Ok(stream) => Ok(Self {
                stream: BufReader::new(stream),
                next: 1,
            }),
            Err(error) => Err(match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                    let cause = format!("nobody listens on {}", path.display());
                    Error::new("xmd is not running", cause)
                        .remedy("start xmd, in the privileged domain and as root")
                }
                ErrorKind::PermissionDenied => {
                    Error::new("cannot speak to xmd", "no permission").remedy("run this as root")
                }
                _ => Error::new("cannot speak to xmd", error),
            }),
        }
    }

    /// Sends one operation and waits for its result; events go to `on_event` as they come.
    ///
    /// # Errors
    /// `Error` of the daemon, or one that says that the connection is lost.
    pub fn call(&mut self, op: Op, on_event: &mut dyn FnMut(Event)) -> Result<serde_json::Value> {
        let lost = |error: &dyn core::fmt::Display| {
            Error::new("xmd did not answer", error).remedy("see xm log; was xmd restarted?")
        };
        let id = self.next;
        self.next += 1;
        let mut line = serde_json::to_string(&Request { id, op }).map_err(|error| lost(&error))?;
        line.push('\n');
        self.stream
            .get_mut()
            .write_all(line.as_bytes())
            .map_err(|error| lost(&error))?;
        loop {
            let mut line = String::new();
            match self.stream.read_line(&mut line) {
                Ok(0) => return Err(lost(&"the connection was closed")),
                Ok(_) => {}
                Err(error) => return Err(lost(&error)),
            }
            let reply: Reply = serde_json::from_str(&line).map_err(|error| lost(&error))?;
            match reply.body {
                _ if reply.id != id => {}
                Body::Event(event) => on_event(event),
                Body::Ok(value) => return Ok(value),
                Body::Error(error) => return Err(error),
            }
        }
    }
}
