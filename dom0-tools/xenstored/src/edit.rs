//! The nodes of a draft: the change of each node, and what the changes add to each domain's nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::perms::{DomId, Perms};
use crate::tree::{NODE_BYTES, Node, Usage, cost};

/// The bytes of a node's edit, beside the content that it holds.
pub const EDIT_BYTES: usize = NODE_BYTES;

/// A node's content.
#[derive(Debug, Clone)]
pub struct Content {
    pub value: Arc<[u8]>,
    pub perms: Arc<Perms>,
}

/// The change of one node of the store.
#[derive(Debug, Default)]
pub(crate) enum State {
    /// The node itself is unchanged; it leads to changes below.
    #[default]
    Kept,
    /// The node gets another content.
    Changed(Content),
    /// A new node comes here. If `replaces`, the store has one, which goes with all below it.
    Made { content: Content, replaces: bool },
    /// The node is removed, with all below it.
    Gone,
}

/// One node of the draft.
#[derive(Debug, Default)]
pub struct Edit {
    pub(crate) state: State,
    pub(crate) children: BTreeMap<Arc<str>, Box<Edit>>,
    /// When a request named this node as the one to change; 0 for never. Watches hear of changes in
    /// this order.
    pub(crate) turn: u32,
    pub(crate) list_changes: u32,
}

/// The growth of a domain's nodes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Growth {
    pub(crate) nodes: i32,
    pub(crate) bytes: isize,
}

/// The growth of each domain.
pub type Growths = BTreeMap<DomId, Growth>;

impl Growth {
    /// The usage after it.
    pub fn on(self, usage: Usage) -> Usage {
        Usage {
            nodes: usage.nodes.saturating_add_signed(self.nodes),
            bytes: usage.bytes.saturating_add_signed(self.bytes),
        }
    }

    pub const fn grows(self) -> bool {
        self.nodes > 0 || self.bytes > 0
    }
}

impl Edit {
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.get(name).map(|edit| &**edit)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.children.keys().map(|name| &**name)
    }

    pub(crate) const fn list_changes(&self) -> u32 {
        self.list_changes
    }

    /// The content that is seen where this lies over `store`, if it is not the store's own, and
    /// what of the store is seen through it. None if there is no node.
    pub(crate) fn over<'a>(
        &'a self,
        store: Option<&'a Node>,
    ) -> Option<(Option<&'a Content>, Option<&'a Node>)> {
        match &self.state {
            State::Kept => store.map(|store| (None, Some(store))),
            State::Changed(content) => Some((Some(content), store)),
            State::Made { content, .. } => Some((Some(content), None)),
            State::Gone => None,
        }
    }

    /// Whether this is a node where the store has none.
    pub(crate) const fn is_new(&self) -> bool {
        matches!(
            self.state,
            State::Made {
                replaces: false,
                ..
            }
        )
    }

    pub(crate) const fn content(&self) -> Option<&Content> {
        match &self.state {
            State::Changed(content) | State::Made { content, .. } => Some(content),
            State::Kept | State::Gone => None,
        }
    }

    /// The memory of this edit in bytes, without the edits below.
    pub(crate) fn bytes(&self, name: &str) -> usize {
        let content = self
            .content()
            .map_or(0, |content| cost("", &content.value, &content.perms));
        EDIT_BYTES
            .saturating_add(name.len())
            .saturating_add(content)
    }
}
