//! The ring page that a domain and the store share (io/xs_wire.h).
//!
//! The page belongs to a guest, which may write anything at any time. So the server's own two
//! indices are kept outside and only ever written to the page; the guest's two are read once
//! each time, and when they make no sense the ring is at fault ([`Fault`]).
//!
//! A guest notifies of a request only if it found the ring empty, and of room for replies only if
//! it found the ring full. So each side that moves an index must read the other index afterwards,
//! with a barrier between: else both sides may believe that the other one has seen what it has not.

use core::fmt;
use core::mem::offset_of;

use guest_pv_abi::xs_wire::{
    XENSTORE_CONNECTED, XENSTORE_ERROR_COMM, XENSTORE_ERROR_PROTO, XENSTORE_ERROR_RINGIDX,
    XENSTORE_RING_SIZE, XENSTORE_SERVER_FEATURE_ERROR, XENSTORE_SERVER_FEATURE_RECONNECTION,
    XenstoreDomainInterface as Page,
};
use oxen_sys::mapping::barrier;
use oxen_sys::{Errno, SharedMemory};

use crate::wire::{HEADER, Header};

const SIZE: u32 = XENSTORE_RING_SIZE;
const REQUESTS: usize = offset_of!(Page, req);
const ANSWERS: usize = offset_of!(Page, rsp);
const REQ_CONS: usize = offset_of!(Page, req_cons);
const REQ_PROD: usize = offset_of!(Page, req_prod);
const RSP_CONS: usize = offset_of!(Page, rsp_cons);
const RSP_PROD: usize = offset_of!(Page, rsp_prod);
const FEATURES: usize = offset_of!(Page, server_features);
const CONNECTION: usize = offset_of!(Page, connection);
const ERROR: usize = offset_of!(Page, error);

/// Watches may have a depth (later than 4.17).
const FEATURE_WATCH_DEPTH: u32 = 4;
const SERVER_FEATURES: u32 =
    XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR | FEATURE_WATCH_DEPTH;

/// A violation of the ring protocol by a guest; its ring is not used any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The page cannot be accessed.
    Memory(Errno),
    /// An index makes no sense.
    Index,
    /// A message is longer than any may be.
    TooLong,
}

impl Fault {
    /// As the page's error field has it.
    const fn code(self) -> u32 {
        match self {
            Self::Memory(_) => XENSTORE_ERROR_COMM,
            Self::Index => XENSTORE_ERROR_RINGIDX,
            Self::TooLong => XENSTORE_ERROR_PROTO,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(error) => write!(f, "its ring cannot be accessed: {error}"),
            Self::Index => f.write_str("an index of its ring makes no sense"),
            Self::TooLong => f.write_str("it sent too long a message"),
        }
    }
}

impl From<Errno> for Fault {
    fn from(error: Errno) -> Self {
        Self::Memory(error)
    }
}

/// Begins: says what the server can, and that it is there. True if the guest waits to hear that.
pub fn open(page: &SharedMemory) -> Result<bool, Fault> {
    page.store(FEATURES, SERVER_FEATURES)?;
    page.store(ERROR, 0)?;
    let waiting = page.load(CONNECTION)? != XENSTORE_CONNECTED;
    page.store(CONNECTION, XENSTORE_CONNECTED)?;
    Ok(waiting)
}

/// Both streams start again.
pub fn clear(page: &SharedMemory) -> Result<(), Fault> {
    for index in [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD] {
        page.store(index, 0)?;
    }
    Ok(())
}

/// The server's own indices as the page has them: consumed, produced.
pub fn own_indices(page: &SharedMemory) -> Result<(u32, u32), Fault> {
    Ok((page.load(REQ_CONS)?, page.load(RSP_PROD)?))
}

/// The requests' bytes from `consumed` on, without taking them.
pub fn peek(page: &SharedMemory, consumed: u32) -> Result<Vec<u8>, Fault> {
    let len = page.load(REQ_PROD)?.wrapping_sub(consumed);
    if len > SIZE {
        return Err(Fault::Index);
    }
    let mut bytes = vec![0; len as usize];
    let start = (consumed % SIZE) as usize;
    let first = bytes.len().min(SIZE as usize - start);
    let (head, tail) = bytes.split_at_mut(first);
    page.read(REQUESTS + start, head)?;
    page.read(REQUESTS, tail)?;
    Ok(bytes)
}

/// Publishes that the requests up to `consumed` are taken. The guest does not notify of requests
/// that came meanwhile.
pub fn take(page: &SharedMemory, consumed: u32) -> Result<(), Fault> {
    page.store(REQ_CONS, consumed)?;
    barrier();
    Ok(())
}

/// Whether there are requests after `consumed`.
pub fn has_requests(page: &SharedMemory, consumed: u32) -> Result<bool, Fault> {
    Ok(page.load(REQ_PROD)? != consumed)
}

/// Puts as much of `bytes` in as there is room for after `produced`; says how much. Only after a
/// zero will the guest notify of room.
pub fn put(page: &SharedMemory, produced: u32, bytes: &[u8]) -> Result<u32, Fault> {
    let used = produced.wrapping_sub(page.load(RSP_CONS)?);
    let room = SIZE.checked_sub(used).ok_or(Fault::Index)?;
    let start = (produced % SIZE) as usize;
    let len = bytes.len().min(room as usize);
    let first = len.min(SIZE as usize - start);
    page.write(ANSWERS + start, &bytes[..first])?;
    page.write(ANSWERS, &bytes[first..len])?;
    // `len` is at most the ring's size.
    page.store(RSP_PROD, produced.wrapping_add(len as u32))?;
    barrier();
    Ok(len as u32)
}

/// Writes into the page that its ring is not served any more.
pub fn fail(page: &SharedMemory, fault: Fault) -> Result<(), Fault> {
    Ok(page.store(ERROR, fault.code())?)
}

/// A message at the start of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    pub header: Header,
    pub payload: &'a [u8],
    /// All its bytes.
    pub len: usize,
}

/// The first message in `bytes`; None if it is not all there.
pub fn first_message(bytes: &[u8]) -> Result<Option<Message<'_>>, Fault> {
    let Some(head) = bytes.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let header = Header::decode(head);
    let len = HEADER + header.payload_len().ok_or(Fault::TooLong)?;
    Ok(bytes.get(HEADER..len).map(|payload| Message {
        header,
        payload,
        len,
    }))
}

#[cfg(test)]
mod tests;
