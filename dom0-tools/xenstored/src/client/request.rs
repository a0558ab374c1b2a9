//! Requests that are sent together.

use super::{Perms, nul};
use crate::wire::Kind;

/// A request, to be sent with others.
#[derive(Debug, Clone)]
pub struct Request {
    pub(super) kind: Kind,
    pub(super) payload: Vec<u8>,
}

impl Request {
    pub fn read(path: &str) -> Self {
        Self {
            kind: Kind::Read,
            payload: nul(path),
        }
    }

    pub fn write(path: &str, value: impl AsRef<[u8]>) -> Self {
        Self {
            kind: Kind::Write,
            payload: [path.as_bytes(), b"\0", value.as_ref()].concat(),
        }
    }

    pub fn rm(path: &str) -> Self {
        Self {
            kind: Kind::Rm,
            payload: nul(path),
        }
    }

    pub fn set_perms(path: &str, perms: &Perms) -> Self {
        Self {
            kind: Kind::SetPerms,
            payload: [nul(path), perms.encode()].concat(),
        }
    }
}
