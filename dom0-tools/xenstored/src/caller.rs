//! The domain behind a request: its rights and its limits.

use crate::perms::{Access, DomId, Perms};
use crate::quota::Quota;
use crate::tree::Usage;

/// The domain on whose behalf a request is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub domain: DomId,
    /// The domain that this one serves, and whose rights it has too.
    pub target: Option<DomId>,
}

impl Caller {
    pub const DOM0: Self = Self {
        domain: 0,
        target: None,
    };

    pub const fn is_privileged(self) -> bool {
        self.domain == 0
    }

    pub fn access(self, perms: &Perms) -> Access {
        let own = perms.access(self.domain);
        match self.target.map(|t| perms.access(t)) {
            Some(other)
                if own.may_read() | other.may_read() && own.may_write() | other.may_write() =>
            {
                Access::Both
            }
            Some(other) if own == Access::None => other,
            _ => own,
        }
    }

    pub fn may_read(self, perms: &Perms) -> bool {
        self.access(perms).may_read()
    }

    pub fn may_write(self, perms: &Perms) -> bool {
        self.access(perms).may_write()
    }

    pub fn owns(self, perms: &Perms) -> bool {
        self.is_privileged() || perms.owner() == self.domain || Some(perms.owner()) == self.target
    }
}

/// The limits of a guest, and the memory that it holds beside its nodes.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'a> {
    pub quota: &'a Quota,
    pub held: usize,
}

impl Limits<'_> {
    /// Whether the caller may own that much.
    pub fn allow(&self, usage: Usage) -> bool {
        usage.nodes <= self.quota.nodes
            && usage.bytes.saturating_add(self.held) <= self.quota.memory as usize
    }
}
