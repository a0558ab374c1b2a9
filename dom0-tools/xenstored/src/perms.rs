//! Permissions of nodes.

use core::fmt;
use core::str::FromStr;

use crate::error::StoreError;

/// A domain's number.
pub type DomId = u16;

/// The rights that an entry gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    None,
    Read,
    Write,
    Both,
}

impl Access {
    pub const fn may_read(self) -> bool {
        matches!(self, Self::Read | Self::Both)
    }

    pub const fn may_write(self) -> bool {
        matches!(self, Self::Write | Self::Both)
    }

    const fn letter(self) -> char {
        match self {
            Self::None => 'n',
            Self::Read => 'r',
            Self::Write => 'w',
            Self::Both => 'b',
        }
    }
}

/// One entry, as in `r5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Perm {
    pub access: Access,
    pub domain: DomId,
}

impl Perm {
    pub const fn new(access: Access, domain: DomId) -> Self {
        Self { access, domain }
    }
}

impl fmt::Display for Perm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.access.letter(), self.domain)
    }
}

impl FromStr for Perm {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let mut chars = text.chars();
        let access = match chars.next() {
            Some('n') => Access::None,
            Some('r') => Access::Read,
            Some('w') => Access::Write,
            Some('b') => Access::Both,
            _ => return Err(StoreError::Inval),
        };
        let digits = chars.as_str();
        // `parse` alone would take a sign.
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(StoreError::Inval);
        }
        Ok(Self {
            access,
            domain: digits.parse().map_err(|_| StoreError::Inval)?,
        })
    }
}

/// A node's permissions: the owner's entry first, whose access is everyone else's. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Perms {
    owner: Perm,
    others: Vec<Perm>,
}

impl Perms {
    /// Only the owner (and dom0) has access.
    pub const fn private(owner: DomId) -> Self {
        Self {
            owner: Perm::new(Access::None, owner),
            others: Vec::new(),
        }
    }

    /// The owner has all access, everyone else may read.
    pub const fn readable(owner: DomId) -> Self {
        Self {
            owner: Perm::new(Access::Read, owner),
            others: Vec::new(),
        }
    }

    /// From a list whose first entry is the owner's.
    pub fn from_list(list: &[Perm]) -> Result<Self, StoreError> {
        let (owner, others) = list.split_first().ok_or(StoreError::Inval)?;
        Ok(Self {
            owner: *owner,
            others: others.to_vec(),
        })
    }

    pub const fn owner(&self) -> DomId {
        self.owner.domain
    }

    pub const fn set_owner(&mut self, owner: DomId) {
        self.owner.domain = owner;
    }

    /// All entries, the owner's first.
    pub fn iter(&self) -> impl Iterator<Item = &Perm> {
        core::iter::once(&self.owner).chain(&self.others)
    }

    /// How many entries.
    pub fn count(&self) -> usize {
        self.others.len().saturating_add(1)
    }

    /// Drops what is granted to a domain that is gone.
    pub fn forget(&mut self, domain: DomId) {
        self.others.retain(|p| p.domain != domain);
    }

    /// The rights of `domain`. dom0 and the owner have all.
    pub fn access(&self, domain: DomId) -> Access {
        if domain == 0 || domain == self.owner.domain {
            return Access::Both;
        }
        self.others
            .iter()
            .find(|p| p.domain == domain)
            .unwrap_or(&self.owner)
            .access
    }

    /// Entries as they travel, each with its nul.
    pub fn encode(&self) -> Vec<u8> {
        self.iter()
            .flat_map(|p| format!("{p}\0").into_bytes())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn perms(text: &str) -> Perms {
        let list: Vec<Perm> = text.split(',').map(|p| p.parse().unwrap()).collect();
        Perms::from_list(&list).unwrap()
    }

    #[test]
    fn first_entry_is_owner_and_default() {
        let perms = perms("r5,n7,b8");
        assert_eq!(perms.owner(), 5);
        assert_eq!(perms.access(5), Access::Both);
        assert_eq!(perms.access(0), Access::Both);
        assert_eq!(perms.access(9), Access::Read);
        assert_eq!(perms.access(7), Access::None);
        assert_eq!(perms.access(8), Access::Both);
        assert_eq!(perms.encode(), b"r5\0n7\0b8\0");
    }

    #[test]
    fn refuses_bad_text() {
        for text in ["", "x1", "r", "r-1", "r+1", "r65536", "r1x"] {
            assert_eq!(text.parse::<Perm>(), Err(StoreError::Inval), "{text}");
        }
        assert_eq!(Perms::from_list(&[]), Err(StoreError::Inval));
    }
}
