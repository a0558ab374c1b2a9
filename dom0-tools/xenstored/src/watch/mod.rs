//! Watches, and the events that each gets.

use crate::error::StoreError;
use crate::path::Path;
use crate::perms::DomId;
use crate::wire::REL_PATH_MAX;

/// The events that are not changes of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    Introduce,
    Release,
}

impl Special {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Introduce => "@introduceDomain",
            Self::Release => "@releaseDomain",
        }
    }

    pub fn from_name(name: &[u8]) -> Option<Self> {
        [Self::Introduce, Self::Release]
            .into_iter()
            .find(|s| s.name().as_bytes() == name)
    }
}

/// The subject of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    Node(Path),
    /// A name that starts with @; one that nothing fires is allowed.
    Special(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    pub subject: Subject,
    pub token: Vec<u8>,
    /// The path was given relative to this domain's home, and so are the paths of events.
    pub relative: Option<DomId>,
    /// How many levels below the path count.
    pub depth: Option<u32>,
}

impl Watch {
    /// The path as `domain` gave it.
    pub fn parse(
        path: &[u8],
        token: &[u8],
        depth: Option<u32>,
        domain: DomId,
    ) -> Result<Self, StoreError> {
        let subject = if path.starts_with(b"@") {
            let name = core::str::from_utf8(path).map_err(|_| StoreError::Inval)?;
            if name.len() > REL_PATH_MAX || depth.is_some_and(|d| d != 1) {
                return Err(StoreError::Inval);
            }
            Subject::Special(name.to_owned())
        } else {
            Subject::Node(Path::resolve(path, domain)?)
        };
        let relative = (!path.starts_with(b"/") && !path.starts_with(b"@")).then_some(domain);
        Ok(Self {
            subject,
            token: token.to_vec(),
            relative,
            depth,
        })
    }

    /// The memory that the watch takes, with its places in the store's tables.
    pub fn bytes(&self) -> usize {
        const TABLES: usize = 384;
        let subject = match &self.subject {
            Subject::Node(path) => path.as_str().len().saturating_mul(2),
            Subject::Special(name) => name.len(),
        };
        TABLES
            .saturating_add(subject)
            .saturating_add(self.token.len())
    }

    /// Whether two watches are alike; a connection has at most one of those.
    pub fn is_like(&self, other: &Self) -> bool {
        self.subject == other.subject && self.token == other.token
    }

    /// The path as its owner gave it.
    pub fn path(&self) -> &str {
        match &self.subject {
            Subject::Node(path) => self.told(path),
            Subject::Special(name) => name,
        }
    }

    /// A path in the owner's terms.
    fn told<'a>(&self, path: &'a Path) -> &'a str {
        match self.relative {
            Some(domain) => path.relative_to(domain),
            None => path.as_str(),
        }
    }

    /// The path of the event for a change at `path`, if the change concerns this watch.
    pub fn on_change<'a>(&self, path: &'a Path) -> Option<&'a str> {
        let Subject::Node(watched) = &self.subject else {
            return None;
        };
        let below = path.depth_below(watched)?;
        let near = self.depth.is_none_or(|depth| below <= depth as usize);
        near.then(|| self.told(path))
    }

    /// If the watch is on a node strictly below `path`, which was removed: that node.
    pub fn below(&self, path: &Path) -> Option<&Path> {
        let Subject::Node(watched) = &self.subject else {
            return None;
        };
        watched
            .depth_below(path)
            .filter(|d| *d > 0)
            .map(|_| watched)
    }

    /// The text of the event for a special event about `domain`.
    pub fn on_special(&self, event: Special, domain: DomId) -> Option<String> {
        let Subject::Special(name) = &self.subject else {
            return None;
        };
        let detail = format!("{}/{domain}", event.name());
        if *name == detail || (name == event.name() && self.depth == Some(1)) {
            return Some(detail);
        }
        (name == event.name()).then(|| name.clone())
    }
}

#[cfg(test)]
mod tests;
