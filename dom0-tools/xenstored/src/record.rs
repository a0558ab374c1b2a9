//! The records of the journal: one for each change that must survive the daemon's death.
//!
//! Records contain the effect, not the request, so that reading them needs no rules. Sockets are
//! not in them: a client sees that its socket broke, and connects again.

use serde::{Deserialize, Serialize};

use crate::perms::{Access, DomId, Perm, Perms};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A node is there, with this content. Parents that are missing are made, with the same
    /// permissions and without a value.
    Put {
        path: String,
        value: Vec<u8>,
        perms: Vec<(u8, DomId)>,
    },
    /// A node and all below it are gone.
    Gone {
        path: String,
    },
    /// The domains that may watch a special event.
    SpecialPerms {
        name: String,
        perms: Vec<(u8, DomId)>,
    },
    /// A domain's ring: frame, the domain's port, and our two indices when it was opened.
    Introduce {
        domain: DomId,
        gfn: u64,
        port: u32,
        consumed: u32,
        produced: u32,
    },
    Release {
        domain: DomId,
    },
    Target {
        domain: DomId,
        target: Option<DomId>,
    },
    /// The domain's shutdown was reported, or is to be reported again.
    ShutdownTold {
        domain: DomId,
        told: bool,
    },
    Watch {
        domain: DomId,
        path: Vec<u8>,
        token: Vec<u8>,
        depth: Option<u32>,
    },
    Unwatch {
        domain: DomId,
        path: Vec<u8>,
        token: Vec<u8>,
    },
    TransactionStart {
        domain: DomId,
        id: u32,
    },
    TransactionEnd {
        domain: DomId,
        id: u32,
    },
    /// Watches and transactions of a domain are gone.
    Reset {
        domain: DomId,
    },
    /// Input was taken out of the ring up to this index; these bytes of it are not yet a whole
    /// request.
    Input {
        domain: DomId,
        consumed: u32,
        partial: Vec<u8>,
    },
    /// A message to the domain, and the index in its ring after it.
    Output {
        domain: DomId,
        produced: u32,
        bytes: Vec<u8>,
    },
    Quota {
        name: String,
        value: u32,
    },
    // New kinds come last: a record's kind is its number in the journal.
    /// Input was taken out of the ring up to this index; these bytes continue a request that is not
    /// yet whole.
    MoreInput {
        domain: DomId,
        consumed: u32,
        more: Vec<u8>,
    },
}

impl Record {
    /// The approximate size of the record in the journal, in bytes.
    #[expect(clippy::len_without_is_empty, reason = "none is empty")]
    pub fn len(&self) -> usize {
        /// Numbers and lengths.
        const REST: usize = 16;
        let bytes = match self {
            Self::Put { path, value, .. } => path.len().saturating_add(value.len()),
            Self::Gone { path } => path.len(),
            Self::Watch { path, token, .. } | Self::Unwatch { path, token, .. } => {
                path.len().saturating_add(token.len())
            }
            Self::Input { partial, .. } => partial.len(),
            Self::MoreInput { more, .. } => more.len(),
            Self::Output { bytes, .. } => bytes.len(),
            _ => 0,
        };
        REST.saturating_add(bytes)
    }
}

/// Permissions as numbers.
pub fn encode_perms(perms: &Perms) -> Vec<(u8, DomId)> {
    let code = |access| match access {
        Access::None => 0,
        Access::Read => 1,
        Access::Write => 2,
        Access::Both => 3,
    };
    perms.iter().map(|p| (code(p.access), p.domain)).collect()
}

/// None if they are no permissions.
pub fn decode_perms(list: &[(u8, DomId)]) -> Option<Perms> {
    let access = |code| match code {
        0 => Some(Access::None),
        1 => Some(Access::Read),
        2 => Some(Access::Write),
        3 => Some(Access::Both),
        _ => None,
    };
    let list: Option<Vec<Perm>> = list
        .iter()
        .map(|(code, d)| Some(Perm::new(access(*code)?, *d)))
        .collect();
    Perms::from_list(&list?).ok()
}
