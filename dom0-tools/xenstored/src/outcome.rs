//! The net effect of changes, for the journal and for watches.

use std::sync::Arc;

use crate::path::Path;
use crate::perms::Perms;
use crate::tree::Node;

/// The net effect of a change, or of a whole transaction, on the store.
#[derive(Debug, Default)]
pub struct Done {
    /// For the journal, in the order in which it can be done again.
    pub journal: Vec<Entry>,
    /// For the watches.
    pub events: Vec<Event>,
    /// Nodes that it made, changed or took away.
    pub nodes: usize,
}

/// A node of the store that is another now.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// The node exists, with its present content. Missing parents came with it, with the same
    /// permissions.
    Put(Path),
    /// The node existed, and is gone with all below it.
    Gone(Path),
}

#[derive(Debug)]
pub enum Event {
    /// A node was made or changed. The permissions that it had, if they changed.
    Changed(Path, Option<Arc<Perms>>),
    /// A node was taken away.
    Removed(Path, Box<Node>),
}

impl Done {
    pub fn put(path: &Path, old: Option<Arc<Perms>>) -> Self {
        Self {
            journal: vec![Entry::Put(path.clone())],
            events: vec![Event::Changed(path.clone(), old)],
            nodes: 1,
        }
    }
}
