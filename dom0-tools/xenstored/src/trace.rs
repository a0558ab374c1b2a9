//! The nodes of the store on which a transaction's outcomes depended.
//!
//! Each look at a node of the store notes the node's stamp. A transaction whose noted stamps are
//! the same at its end would see and do the same again at that instant, so it may commit. Where two
//! looks of one transaction differ, it is broken at once: the store may be as it was by the time of
//! the commit.
//!
//! A tree like the store's own, so that a path's names are here once, and all are compared in one
//! walk.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::path::Path;
use crate::tree::{Node, Tree};
use crate::view::{Notes, Stamp};

/// The bytes of a traced node, beside its name.
pub const LOOK_BYTES: usize = 384;

#[derive(Debug, Default)]
struct Look {
    own: Option<Stamp>,
    list: Option<Stamp>,
    children: BTreeMap<Arc<str>, Box<Look>>,
}

/// The nodes that outcomes depended on.
#[derive(Debug, Default)]
pub struct Trace {
    root: Look,
    noted: usize,
    bytes: usize,
    broken: bool,
}

impl Look {
    fn child(&mut self, name: &str, bytes: &mut usize) -> &mut Self {
        self.children.entry(name.into()).or_insert_with(|| {
            *bytes = bytes.saturating_add(LOOK_BYTES).saturating_add(name.len());
            Box::default()
        })
    }
}

impl Trace {
    /// The trace of a transaction whose looks are lost, so that it can only fail.
    pub fn broken() -> Self {
        Self {
            broken: true,
            ..Self::default()
        }
    }

    /// Nodes that were looked at.
    pub const fn count(&self) -> usize {
        self.noted
    }

    /// The memory of the trace, in bytes.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes a look at `path`, which was also for the list of children if `list`.
    pub fn note(&mut self, path: &Path, notes: &Notes, list: bool) {
        let wanted = [notes.nearest, notes.missing];
        let (mut at, mut look) = (1, &mut self.root);
        let mut steps = path.steps();
        for (len, stamp) in wanted.into_iter().flatten() {
            while at < len {
                let Some(name) = steps.next() else {
                    return;
                };
                look = look.child(name, &mut self.bytes);
                at = path.next_len(at);
            }
            if look.own.is_none() {
                self.noted = self.noted.saturating_add(1);
            }
            self.broken |= *look.own.get_or_insert(stamp) != stamp;
            if list && notes.nearest.is_some_and(|(nearest, _)| nearest == at) {
                self.broken |= *look.list.get_or_insert(notes.list) != notes.list;
            }
        }
    }

    /// Whether all nodes that were seen are still the same.
    pub fn holds(&self, tree: &Tree) -> bool {
        let mut todo = vec![(&self.root, Some(tree.root()))];
        while let Some((look, node)) = todo.pop() {
            let own = node.map(Node::own_stamp);
            let list = node.map(Node::list_stamp);
            if look.own.is_some_and(|then| then != own)
                || look.list.is_some_and(|then| then != list)
            {
                return false;
            }
            let children = look.children.iter();
            todo.extend(children.map(|(name, look)| {
                let child = node.and_then(|node| node.child(name));
                (&**look, child)
            }));
        }
        !self.broken
    }
}
