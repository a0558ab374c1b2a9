//! One ring being served: requests from its page to the server, replies back.
//!
//! The order of steps is what makes the daemon's death harmless. [`Session::serve`] lets requests
//! be handled and takes nothing out of the page. Then the records are written. Only then does
//! [`Session::send`] take the requests out and put replies in. Whatever step is the last, the page
//! and the records together say how to go on.

use oxen_sys::SharedMemory;

use crate::notices::Notice;
use crate::perms::DomId;
use crate::ring::{self, Fault, Message};
use crate::server::{ConnId, Indices, Platform, Server};

/// Requests handled of one ring at a time, however little work they are.
const TURN: usize = 8;

/// The daemon's position in a ring.
#[derive(Debug)]
pub struct Session {
    domain: DomId,
    /// The end of what was put into the page.
    produced: u32,
    /// Requests up to here are to be taken out, once the records are written.
    take: Option<u32>,
    /// The guest is at fault: its ring is not looked at any more.
    broken: bool,
}

impl Session {
    /// Begins to serve a page, a `fresh` one from zero. True if the guest waits to hear that.
    pub fn open(
        page: &SharedMemory,
        domain: DomId,
        fresh: bool,
    ) -> Result<(Self, Indices, bool), Fault> {
        if fresh {
            ring::clear(page)?;
        }
        let waiting = ring::open(page)?;
        let (consumed, produced) = ring::own_indices(page)?;
        let session = Self {
            domain,
            produced,
            take: None,
            broken: false,
        };
        Ok((session, Indices { consumed, produced }, waiting))
    }

    /// After a restart the records have the position; the page may not, if the previous daemon died
    /// in between.
    pub fn resume(&mut self, server: &Server) {
        self.take = server.ring(self.domain).map(|r| r.indices.consumed);
    }

    /// Handles requests for about `slice` steps of work, one at least. True if there are more.
    pub fn serve(
        &mut self,
        page: &SharedMemory,
        server: &mut Server,
        platform: &mut dyn Platform,
        slice: u64,
    ) -> Result<bool, Fault> {
        let Some(state) = server.ring(self.domain).filter(|_| !self.broken) else {
            return Ok(false);
        };
        let (consumed, mut bytes) = (state.indices.consumed, state.partial.clone());
        let known = bytes.len();
        bytes.extend(ring::peek(page, consumed)?);
        if bytes.len() == known {
            return Ok(false);
        }
        let handled = self.handle(&bytes, server, platform, slice);
        // Whole requests that must wait stay in the page. Of an incomplete request the start is
        // taken, for two reasons: it may be larger than the page's ring, and a guest notifies of
        // more only where it finds the ring empty.
        let taken = match handled.stop {
            Stop::NotWhole => bytes.len(),
            Stop::Later | Stop::Fault(_) => handled.bytes,
        };
        if let Some(new) = taken.checked_sub(known).filter(|new| *new > 0) {
            // A ring's bytes fit in u32.
            let consumed = consumed.wrapping_add(new as u32);
            if handled.bytes == 0 {
                server.took_more(self.domain, consumed, bytes.split_off(known));
            } else {
                let partial = bytes.get(handled.bytes..taken).unwrap_or_default();
                server.took(self.domain, consumed, partial.to_vec());
            }
            self.take = Some(consumed);
        }
        match handled.stop {
            Stop::Fault(fault) => Err(fault),
            Stop::NotWhole => Ok(false),
            Stop::Later => Ok(!server.is_backed_up(ConnId::Domain(self.domain))),
        }
    }

    fn handle(
        &self,
        bytes: &[u8],
        server: &mut Server,
        platform: &mut dyn Platform,
        slice: u64,
    ) -> Handled {
        let id = ConnId::Domain(self.domain);
        let start = server.work();
        let mut at = 0;
        for _ in 0..TURN {
            let used = server.work().saturating_sub(start);
            if server.is_backed_up(id) || used >= slice {
                break;
            }
            let stop = match ring::first_message(bytes.get(at..).unwrap_or(&[])) {
                Ok(Some(Message {
                    header,
                    payload,
                    len,
                })) => {
                    server.receive(id, header, payload, platform);
                    at = at.saturating_add(len);
                    continue;
                }
                Ok(None) => Stop::NotWhole,
                Err(fault) => Stop::Fault(fault),
            };
            return Handled { bytes: at, stop };
        }
        Handled {
            bytes: at,
            stop: Stop::Later,
        }
    }

    /// Takes handled requests out and puts replies in.
    pub fn send(&mut self, page: &SharedMemory, server: &mut Server) -> Result<Sent, Fault> {
        let id = ConnId::Domain(self.domain);
        let mut sent = Sent::default();
        if self.broken {
            return Ok(sent);
        }
        if let Some(consumed) = self.take.take() {
            ring::take(page, consumed)?;
            sent.notify = true;
        }
        let Some(outbox) = server.outbox(id) else {
            return Ok(sent);
        };
        while !outbox.is_empty() {
            let count = ring::put(page, self.produced, outbox.next())?;
            if count == 0 {
                break;
            }
            self.produced = self.produced.wrapping_add(count);
            outbox.advance(count as usize);
            sent.notify = true;
        }
        // The guest does not notify of requests that came while others were handled; and requests
        // that waited for replies to be sent may not have to any more.
        if let Some(ring) = server.ring(self.domain) {
            let waiting = ring::has_requests(page, ring.indices.consumed)?;
            sent.more = waiting && !server.is_backed_up(id);
        }
        Ok(sent)
    }

    /// Gives the ring up. Returns the notice for the log.
    pub fn fail(&mut self, page: Result<&SharedMemory, Fault>, fault: Fault) -> Notice {
        self.broken = true;
        // If the page cannot be written, the guest is gone.
        let _ = page.and_then(|page| ring::fail(page, fault));
        Notice {
            domain: self.domain,
            text: format!("is not served any more: {fault}"),
        }
    }
}

/// The steps that follow after replies were sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// The guest is to be notified.
    pub notify: bool,
    /// There are requests to serve at once.
    pub more: bool,
}

struct Handled {
    /// The bytes of the requests that were handled.
    bytes: usize,
    stop: Stop,
}

enum Stop {
    /// The next request is not all there.
    NotWhole,
    /// Other guests come first, or replies must be sent first.
    Later,
    Fault(Fault),
}
