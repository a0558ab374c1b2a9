//! Paths of nodes, checked once where they come in.

use core::fmt;

use crate::error::StoreError;
use crate::perms::DomId;
use crate::wire::{ABS_PATH_MAX, REL_PATH_MAX};

/// A valid absolute path: it starts with a slash, ends with none (but the root's), has none doubled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(String);

impl Path {
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// The home of a domain, to which its relative paths belong.
    pub fn home(domain: DomId) -> Self {
        Self(format!("/local/domain/{domain}"))
    }

    /// A path as `domain` gave it, perhaps relative.
    pub fn resolve(text: &[u8], domain: DomId) -> Result<Self, StoreError> {
        let text = core::str::from_utf8(text).map_err(|_| StoreError::Inval)?;
        if text.starts_with('/') {
            return Self::absolute(text.to_owned());
        }
        if text.len() > REL_PATH_MAX {
            return Err(StoreError::Inval);
        }
        Self::absolute(format!("{}/{text}", Self::home(domain)))
    }

    pub fn absolute(text: String) -> Result<Self, StoreError> {
        let good_char = |b: u8| b.is_ascii_alphanumeric() || b"-/_@".contains(&b);
        let good = text.starts_with('/')
            && text.len() <= ABS_PATH_MAX
            && (text == "/" || !text.ends_with('/'))
            && !text.contains("//")
            && text.bytes().all(good_char)
            && without_home(&text).len() <= REL_PATH_MAX;
        if good {
            Ok(Self(text))
        } else {
            Err(StoreError::Inval)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names on the way from the root.
    pub fn steps(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/').filter(|s| !s.is_empty())
    }

    /// None for the root.
    pub fn parent(&self) -> Option<Self> {
        match self.0.rfind('/') {
            Some(0) if self.0.len() == 1 => None,
            Some(0) => Some(Self::root()),
            Some(at) => Some(Self(self.0[..at].to_owned())),
            None => None,
        }
    }

    /// The first `depth` steps of it.
    pub fn upto(&self, depth: usize) -> Self {
        let mut slashes = self.0.match_indices('/').map(|(at, _)| at);
        match (depth, slashes.nth(depth)) {
            (0, _) => Self::root(),
            (_, Some(end)) => Self(self.0[..end].to_owned()),
            (_, None) => self.clone(),
        }
    }

    /// The child of that name, which must be a valid step.
    pub fn join(&self, name: &str) -> Self {
        if self.0 == "/" {
            Self(format!("/{name}"))
        } else {
            Self(format!("{}/{name}", self.0))
        }
    }

    /// How many levels this is below `ancestor`: 0 if they are the same, None if it is elsewhere.
    pub fn depth_below(&self, ancestor: &Self) -> Option<usize> {
        let rest = if ancestor.0 == "/" {
            &self.0
        } else {
            self.0.strip_prefix(&ancestor.0)?
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

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The part of a path below some domain's home: the limit for guests' paths does not count the home.
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
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        Path::absolute(text.to_owned()).unwrap()
    }

    #[test]
    fn checks_syntax() {
        for bad in ["", "a", "//", "/a/", "/a//b", "/a b", "/a.b", "/é"] {
            assert_eq!(
                Path::absolute(bad.to_owned()),
                Err(StoreError::Inval),
                "{bad}"
            );
        }
        assert_eq!(
            Path::resolve(b"data/x", 3).unwrap(),
            path("/local/domain/3/data/x")
        );
        assert_eq!(Path::resolve(b"", 3), Err(StoreError::Inval));
        assert_eq!(Path::resolve(b"/\xff", 3), Err(StoreError::Inval));
    }

    #[test]
    fn limits_length() {
        let long = "x".repeat(REL_PATH_MAX);
        assert!(Path::resolve(long.as_bytes(), 3).is_ok());
        assert!(Path::resolve(format!("{long}x").as_bytes(), 3).is_err());
        assert!(Path::absolute(format!("/{long}")).is_err());
        assert!(Path::absolute(format!("/local/domain/77/{long}")).is_ok());
    }

    #[test]
    fn knows_its_family() {
        assert_eq!(path("/").parent(), None);
        assert_eq!(path("/a").parent(), Some(Path::root()));
        assert_eq!(path("/a/b").parent(), Some(path("/a")));
        assert_eq!(path("/a/b/c").upto(2), path("/a/b"));
        assert_eq!(path("/a/b").upto(2), path("/a/b"));
        assert_eq!(path("/a/b").upto(0), Path::root());
        assert_eq!(Path::root().upto(0), Path::root());
        assert_eq!(path("/a/b").depth_below(&path("/a")), Some(1));
        assert_eq!(path("/a/b/c").depth_below(&Path::root()), Some(3));
        assert_eq!(path("/").depth_below(&Path::root()), Some(0));
        assert_eq!(path("/ab").depth_below(&path("/a")), None);
        assert_eq!(path("/a").depth_below(&path("/a/b")), None);
        assert_eq!(path("/local/domain/3/x/y").relative_to(3), "x/y");
        assert_eq!(
            path("/local/domain/33/x").relative_to(3),
            "/local/domain/33/x"
        );
        assert_eq!(Path::root().join("a").join("b"), path("/a/b"));
    }
}
