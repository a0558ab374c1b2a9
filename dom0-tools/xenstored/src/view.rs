//! The store as a transaction sees it: the store's own nodes, under a draft of changes.

use crate::edit::{Content, Edit, Growths};
use crate::path::Path;
use crate::perms::{DomId, Perms};
use crate::tree::{Node, Tree, Usage};
use std::sync::Arc;

/// The store, with a transaction's changes if there is one.
#[derive(Clone, Copy)]
pub struct View<'a> {
    tree: &'a Tree,
    draft: Option<(&'a Edit, &'a Growths)>,
}

/// A node as the view shows it.
#[derive(Clone, Copy)]
pub struct NodeView<'a> {
    pub value: &'a Arc<[u8]>,
    pub perms: &'a Arc<Perms>,
    /// The store's node, unless the draft has made another in its place.
    store: Option<&'a Node>,
    edit: Option<&'a Edit>,
}

/// The nearest node at or above a path.
#[derive(Clone, Copy)]
pub struct Nearest<'a> {
    /// The length of the part of the path that leads there.
    pub known: usize,
    pub node: NodeView<'a>,
    pub notes: Notes,
}

/// The store's own nodes on which a look depended. The stamps of missing nodes are `None`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Notes {
    /// The nearest node, by the length of its path.
    pub nearest: Option<(usize, Stamp)>,
    /// The first missing one: while it stays missing, so does all below it.
    pub missing: Option<(usize, Stamp)>,
    /// The list of the nearest one's children.
    pub list: Stamp,
}

/// A node's stamp, or that there is no node.
pub type Stamp = Option<u64>;

impl<'a> View<'a> {
    pub const fn of_store(tree: &'a Tree) -> Self {
        Self { tree, draft: None }
    }

    /// The store under a draft: the draft's root, and what its changes add to each domain's nodes.
    pub const fn with(tree: &'a Tree, root: &'a Edit, owned: &'a Growths) -> Self {
        Self {
            tree,
            draft: Some((root, owned)),
        }
    }

    /// The nodes that a domain owns.
    pub fn usage(&self, domain: DomId) -> Usage {
        let usage = self.tree.usage(domain);
        let growth = self.draft.and_then(|(_, owned)| owned.get(&domain));
        growth.map_or(usage, |growth| growth.on(usage))
    }

    fn root(&self) -> NodeView<'a> {
        let (store, edit) = (self.tree.root(), self.draft.map(|(root, _)| root));
        NodeView::of(Some(store), edit).unwrap_or(NodeView {
            value: &store.value,
            perms: &store.perms,
            store: Some(store),
            edit,
        })
    }

    pub fn nearest(&self, path: &Path) -> Nearest<'a> {
        let (mut known, mut node) = (1, self.root());
        let mut missing = None;
        for name in path.steps() {
            let next = path.next_len(known);
            let Some(child) = node.child(name) else {
                // Where the draft made the node above, nothing of the store matters.
                missing = node.store.map(|store| {
                    let stamp = store.child(name).map(Node::own_stamp);
                    (next, stamp)
                });
                break;
            };
            node = child;
            known = next;
        }
        let notes = Notes {
            nearest: node.store.map(|store| (known, Some(store.own_stamp()))),
            missing,
            list: node.store.map(Node::list_stamp),
        };
        Nearest { known, node, notes }
    }
}

impl<'a> NodeView<'a> {
    /// None if there is no such node.
    pub(crate) fn of(store: Option<&'a Node>, edit: Option<&'a Edit>) -> Option<Self> {
        let Some(edit) = edit else {
            let node = store?;
            return Some(Self {
                value: &node.value,
                perms: &node.perms,
                store,
                edit: None,
            });
        };
        let (content, store) = edit.over(store)?;
        let (value, perms) = match (content, store) {
            (Some(content), _) => (&content.value, &content.perms),
            (None, Some(node)) => (&node.value, &node.perms),
            (None, None) => return None,
        };
        Some(Self {
            value,
            perms,
            store,
            edit: Some(edit),
        })
    }

    /// The node's value and permissions.
    pub fn content(&self) -> Content {
        Content {
            value: Arc::clone(self.value),
            perms: Arc::clone(self.perms),
        }
    }

    pub fn child(&self, name: &str) -> Option<Self> {
        Self::of(
            self.store.and_then(|store| store.child(name)),
            self.edit.and_then(|edit| edit.child(name)),
        )
    }

    /// The names of the children, in order.
    pub fn names(&self) -> Vec<&'a str> {
        let store = self.store.into_iter().flat_map(Node::children);
        let Some(edit) = self.edit else {
            return store.map(|(name, _)| name).collect();
        };
        let of_store = store
            .map(|(name, _)| name)
            .filter(|name| self.child(name).is_some());
        let is_new = |name: &&str| self.store.is_none_or(|store| store.child(name).is_none());
        let of_draft = edit
            .names()
            .filter(|name| is_new(name) && self.child(name).is_some());
        let mut names: Vec<&str> = of_store.chain(of_draft).collect();
        names.sort_unstable();
        names
    }

    /// Bytes of the names of the children, each with one more.
    fn names_len(&self) -> usize {
        let mut len = self.store.map_or(0, Node::names_len);
        for name in self.edit.into_iter().flat_map(Edit::names) {
            let was = self.store.is_some_and(|store| store.child(name).is_some());
            let bytes = name.len().saturating_add(1);
            match (was, self.child(name).is_some()) {
                (false, true) => len = len.saturating_add(bytes),
                (true, false) => len = len.saturating_sub(bytes),
                _ => {}
            }
        }
        len
    }

    /// The bytes that count against a guest's limit for one node.
    pub fn size(&self) -> usize {
        self.names_len()
            .saturating_add(self.value.len())
            .saturating_add(self.perms.count().saturating_mul(8))
    }

    /// Changes whenever the list of children does.
    pub fn list_stamp(&self) -> u64 {
        /// No list changes so often.
        const DRAFT: u32 = 40;
        let changes = self.edit.map_or(0, Edit::list_changes);
        self.store
            .map_or(0, Node::list_stamp)
            .wrapping_add(u64::from(changes) << DRAFT)
    }

    /// This node and all below it, with their names; `name` is its own.
    pub fn walk<'n>(self, name: &'n str) -> Vec<(&'n str, Self)>
    where
        'a: 'n,
    {
        let mut all = Vec::new();
        let mut todo = vec![(name, self)];
        while let Some((name, node)) = todo.pop() {
            for name in node.names() {
                todo.extend(node.child(name).map(|child| (name, child)));
            }
            all.push((name, node));
        }
        all
    }
}
