//! Watches by path. A change concerns few of all connections, and looking at the watches of every
//! one would make a change as long as there are guests.

use std::collections::{BTreeMap, BTreeSet};

use super::ConnId;
use crate::path::Path;
use crate::watch::{Subject, Watch};

/// The watched nodes, and how many watches each connection has there. Special events are not in it.
#[derive(Debug, Default)]
pub(super) struct Listeners(BTreeMap<String, BTreeMap<ConnId, u32>>);

impl Listeners {
    pub(super) fn add(&mut self, watch: &Watch, id: ConnId) {
        if let Subject::Node(path) = &watch.subject {
            let here = self.0.entry(path.to_string()).or_default();
            let count = here.entry(id).or_default();
            *count = count.saturating_add(1);
        }
    }

    pub(super) fn remove(&mut self, watch: &Watch, id: ConnId) {
        let Subject::Node(path) = &watch.subject else {
            return;
        };
        let Some(here) = self.0.get_mut(path.as_str()) else {
            return;
        };
        if let Some(count) = here.get_mut(&id) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                here.remove(&id);
            }
        }
        if here.is_empty() {
            self.0.remove(path.as_str());
        }
    }

    pub(super) fn remove_all(&mut self, watches: &[Watch], id: ConnId) {
        for watch in watches {
            self.remove(watch, id);
        }
    }

    /// The connections that watch the node or one above it.
    pub(super) fn of_change(&self, path: &Path) -> BTreeSet<ConnId> {
        let mut found = BTreeSet::new();
        for watched in path.lineage() {
            if let Some(here) = self.0.get(watched) {
                found.extend(here.keys());
            }
        }
        found
    }

    /// The connections that watch the node, or one above or below it.
    pub(super) fn of_removal(&self, path: &Path) -> BTreeSet<ConnId> {
        let mut found = self.of_change(path);
        // The character after a slash ends the range of what is below.
        let below = format!("{path}/")..format!("{path}0");
        for here in self.0.range(below).map(|(_, here)| here) {
            found.extend(here.keys());
        }
        found
    }
}

#[cfg(test)]
impl Listeners {
    /// How many nodes are watched.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn above_and_below() {
        let watch = |path: &str| Watch::parse(path.as_bytes(), b"t", None, 0).unwrap();
        let path = |text: &str| Path::absolute(text.to_owned()).unwrap();
        let ids = |found: BTreeSet<ConnId>| found.into_iter().collect::<Vec<_>>();
        let [root, a, ab, abc, twice] = [0, 1, 2, 3, 4].map(ConnId::Domain);
        let mut all = Listeners::default();
        for (text, id) in [("/", root), ("/a", a), ("/ab", ab), ("/a/b/c", abc)] {
            all.add(&watch(text), id);
        }
        all.add(&watch("/a"), twice);
        all.add(&watch("/a"), twice);
        all.add(&watch("@releaseDomain"), twice);
        assert_eq!(ids(all.of_change(&path("/a/b"))), [root, a, twice]);
        assert_eq!(ids(all.of_change(&path("/"))), [root]);
        assert_eq!(ids(all.of_removal(&path("/a"))), [root, a, abc, twice]);
        all.remove(&watch("/a"), twice);
        assert_eq!(ids(all.of_change(&path("/a"))), [root, a, twice]);
        all.remove_all(&[watch("/a"), watch("/")], twice);
        assert_eq!(ids(all.of_change(&path("/a"))), [root, a]);
        all.remove(&watch("/a/b/c"), abc);
        assert_eq!(ids(all.of_removal(&path("/a/b"))), [root, a]);
        assert_eq!(all.0.len(), 3);
    }
}
