//! Paths of nodes, checked once where they come in.

use core::fmt;
use std::sync::Arc;

use crate::error::StoreError;
use crate::perms::DomId;
use crate::wire::{ABS_PATH_MAX, REL_PATH_MAX};

/// A valid absolute path: it starts with a slash, ends with none (but the root's), has none
/// doubled. A change is noted in many places by its path, so a clone is cheap.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Arc<str>);

/// The names of a path, from either end. `str::split` takes any pattern, and several times as long.
pub struct Steps<'a>(&'a str);

impl<'a> Iterator for Steps<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        match self.0.bytes().position(|b| b == b'/') {
            Some(at) => {
                let name = &self.0[..at];
                self.0 = &self.0[at + 1..];
                Some(name)
            }
            None => Some(core::mem::take(&mut self.0)),
        }
    }
}

impl DoubleEndedIterator for Steps<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        match self.0.bytes().rposition(|b| b == b'/') {
            Some(at) => {
                let name = &self.0[at + 1..];
                self.0 = &self.0[..at];
                Some(name)
            }
            None => Some(core::mem::take(&mut self.0)),
        }
    }
}

impl Path {
    pub fn root() -> Self {
        Self("/".into())
    }

    /// The home of a domain, to which its relative paths belong.
    pub fn home(domain: DomId) -> Self {
        Self(format!("/local/domain/{domain}").into())
    }

    /// A path as `domain` gave it, perhaps relative.
    pub fn resolve(text: &[u8], domain: DomId) -> Result<Self, StoreError> {
        let text = core::str::from_utf8(text).map_err(|_| StoreError::Inval)?;
        if text.starts_with('/') {
            return Self::checked(text);
        }
        if text.len() > REL_PATH_MAX {
            return Err(StoreError::Inval);
        }
        Self::checked(&format!("{}/{text}", Self::home(domain)))
    }

    pub fn absolute(text: String) -> Result<Self, StoreError> {
        Self::checked(&text)
    }

    fn checked(text: &str) -> Result<Self, StoreError> {
        let mut before = b' ';
        let mut good_char = |b: u8| {
            let doubled = b == b'/' && before == b'/';
            before = b;
            !doubled
                && matches!(b, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'/' | b'_' | b'@')
        };
        let good = text.starts_with('/')
            && text.len() <= ABS_PATH_MAX
            && (text == "/" || !text.ends_with('/'))
            && text.bytes().all(&mut good_char)
            && (text.len() <= REL_PATH_MAX || without_home(text).len() <= REL_PATH_MAX);
        if good {
            Ok(Self(text.into()))
        } else {
            Err(StoreError::Inval)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names on the way from the root.
    pub fn steps(&self) -> Steps<'_> {
        Steps(&self.0[1..])
    }

    /// The names behind the first `len` bytes.
    pub fn steps_after(&self, len: usize) -> Steps<'_> {
        let from = len.max(1) + usize::from(len > 1);
        Steps(self.0.get(from..).unwrap_or_default())
    }

    /// The last name; the root has an empty one.
    pub fn name(&self) -> &str {
        self.steps().next_back().unwrap_or_default()
    }

    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// None for the root.
    pub fn parent(&self) -> Option<Self> {
        match self.0.bytes().rposition(|b| b == b'/') {
            Some(0) if self.0.len() == 1 => None,
            Some(0) => Some(Self::root()),
            Some(at) => Some(Self(self.0[..at].into())),
            None => None,
        }
    }

    /// All of it and what it is below, from the root down.
    pub fn lineage(&self) -> impl Iterator<Item = &str> {
        let ends = self.0.bytes().enumerate().filter(|(_, b)| *b == b'/');
        let above = ends.map(|(at, _)| &self.0[..at.max(1)]);
        let whole = (self.0.len() > 1).then_some(&*self.0);
        above.chain(whole)
    }

    /// The path of the first `len` bytes, which is one of [`Self::lineage`].
    pub fn upto(&self, len: usize) -> Self {
        if len == self.0.len() {
            self.clone()
        } else {
            Self(self.0[..len].into())
        }
    }

    /// The length of the path one step longer than that of the first `len` bytes.
    pub fn next_len(&self, len: usize) -> usize {
        // Behind the slash, which is the root's own.
        let from = len.max(1) + usize::from(len > 1);
        let rest = self.0.bytes().skip(from);
        from + rest.take_while(|b| *b != b'/').count()
    }

    /// The child of that name, which must be a valid step.
    pub fn join(&self, name: &str) -> Self {
        let parent = if self.0.len() == 1 { "" } else { &self.0 };
        Self([parent, "/", name].concat().into())
    }

    /// The node that these names lead to from here. They must be valid steps.
    pub fn join_all(&self, names: &[&str]) -> Self {
        let mut path = PathBuf(self.0.to_string());
        for name in names {
            path.push(name);
        }
        path.get()
    }

    /// How many levels this is below `ancestor`: 0 if they are the same, None if it is elsewhere.
    pub fn depth_below(&self, ancestor: &Self) -> Option<usize> {
        let rest = if ancestor.0.len() == 1 {
            &*self.0
        } else {
            self.0.strip_prefix(&*ancestor.0)?
        };
        match rest {
            "" | "/" => Some(0),
            _ if rest.starts_with('/') => Some(rest.bytes().filter(|b| *b == b'/').count()),
            _ => None,
        }
    }

    /// As the domain sees it that named it relative to its home.
    pub fn relative_to(&self, domain: DomId) -> &str {
        self.0
            .strip_prefix(Self::home(domain).as_str())
            .and_then(|r| r.strip_prefix('/'))
            .unwrap_or(&self.0)
    }
}

/// A path that grows and shrinks, for a walk.
#[derive(Debug)]
pub struct PathBuf(String);

impl PathBuf {
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// Goes to a child, whose name must be a valid step. The length to come back to by
    /// [`Self::pop`].
    pub fn push(&mut self, name: &str) -> usize {
        let len = self.0.len();
        if len > 1 {
            self.0.push('/');
        }
        self.0.push_str(name);
        len
    }

    pub fn pop(&mut self, len: usize) {
        self.0.truncate(len);
    }

    pub fn get(&self) -> Path {
        Path(self.0.as_str().into())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The part of a path below some domain's home: the limit for guests' paths does not count the
/// home.
fn without_home(text: &str) -> &str {
    let below = || {
        let (domain, rest) = text.strip_prefix("/local/domain/")?.split_once('/')?;
        let number =
            !domain.is_empty() && domain.len() <= 5 && domain.bytes().all(|b| b.is_ascii_digit());
        number.then_some(rest)
    };
    below().unwrap_or(text)
}

#[cfg(test)]
mod tests;
