//! The changes of a transaction: a sparse tree that lies over the store's own.
//!
//! A draft holds the net effect, not the history: a node that was made and removed again leaves
//! nothing in it, and a node that was written twice is in it once. So its size is bounded by the
//! nodes that differ, a commit records each of them once, and the store may change meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::edit::{Content, Edit, Growth, Growths, State};
use crate::outcome::{Done, Entry, Event};
use crate::path::{Path, PathBuf};
use crate::perms::{DomId, Perms};
use crate::tree::{Counts, Node, Tree, cost};
use crate::view::View;

/// All that a transaction has changed.
#[derive(Debug, Default)]
pub struct Draft {
    root: Edit,
    sums: Sums,
    turns: u32,
}

/// The sums over a draft.
#[derive(Debug, Default)]
struct Sums {
    owned: Growths,
    edits: usize,
    bytes: usize,
}

impl Sums {
    /// A node that is seen came (1) or went (-1).
    fn node(&mut self, name: &str, value: &[u8], perms: &Perms, by: i32) {
        let bytes = cost(name, value, perms).cast_signed();
        let owned = self.owned.entry(perms.owner()).or_default();
        owned.nodes = owned.nodes.saturating_add(by);
        owned.bytes = if by < 0 {
            owned.bytes.saturating_sub(bytes)
        } else {
            owned.bytes.saturating_add(bytes)
        };
    }

    fn content(&mut self, name: &str, content: &Content, by: i32) {
        self.node(name, &content.value, &content.perms, by);
    }

    /// Gives an edit another state.
    fn set(&mut self, edit: &mut Edit, state: State, turn: u32) {
        self.bytes = self.bytes.saturating_sub(edit.bytes(""));
        edit.state = state;
        edit.turn = turn;
        self.bytes = self.bytes.saturating_add(edit.bytes(""));
    }

    /// The edit of a child, made if there is none.
    fn child<'e>(&mut self, edit: &'e mut Edit, name: &str) -> &'e mut Edit {
        edit.children.entry(name.into()).or_insert_with(|| {
            let new = Box::<Edit>::default();
            self.edits = self.edits.saturating_add(1);
            self.bytes = self.bytes.saturating_add(new.bytes(name));
            new
        })
    }

    fn find<'e, 'p>(
        &mut self,
        root: &'e mut Edit,
        names: impl Iterator<Item = &'p str>,
    ) -> &'e mut Edit {
        names.fold(root, |edit, name| self.child(edit, name))
    }

    /// Edits that are no more.
    fn forget(&mut self, name: &str, edit: &Edit) {
        let mut todo = vec![(name, edit)];
        while let Some((name, edit)) = todo.pop() {
            self.edits = self.edits.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(edit.bytes(name));
            todo.extend(edit.children.iter().map(|(name, edit)| (&**name, &**edit)));
        }
    }
}

impl Draft {
    /// The store under this draft.
    pub const fn view<'a>(&'a self, tree: &'a Tree) -> View<'a> {
        View::with(tree, &self.root, &self.sums.owned)
    }

    /// Nodes that are in it, to be changed or on the way.
    pub const fn count(&self) -> usize {
        self.sums.edits
    }

    /// The memory that it takes.
    pub const fn bytes(&self) -> usize {
        self.sums.bytes
    }

    pub fn owned(&self, domain: DomId) -> Growth {
        self.sums.owned.get(&domain).copied().unwrap_or_default()
    }

    const fn next_turn(&mut self) -> u32 {
        self.turns = self.turns.saturating_add(1);
        self.turns
    }

    /// Gives a node that is seen another content.
    pub fn set(&mut self, path: &Path, old: &Content, new: Content) {
        let turn = self.next_turn();
        self.sums.content(path.name(), old, -1);
        self.sums.content(path.name(), &new, 1);
        let edit = self.sums.find(&mut self.root, path.steps());
        let state = match edit.state {
            State::Made { replaces, .. } => State::Made {
                content: new,
                replaces,
            },
            _ => State::Changed(new),
        };
        self.sums.set(edit, state, turn);
    }

    /// Makes the nodes of a path that are not seen: those behind its first `known` bytes. Parents
    /// get the same permissions and no value.
    pub fn make(&mut self, path: &Path, known: usize, content: &Content) {
        let turn = self.next_turn();
        let mut edit = self.sums.find(&mut self.root, path.upto(known).steps());
        let mut new = path.steps_after(known).peekable();
        while let Some(name) = new.next() {
            let is_last = new.peek().is_none();
            let content = Content {
                value: if is_last {
                    Arc::clone(&content.value)
                } else {
                    Arc::default()
                },
                perms: Arc::clone(&content.perms),
            };
            edit.list_changes = edit.list_changes.saturating_add(1);
            edit = self.sums.child(edit, name);
            self.sums.content(name, &content, 1);
            let replaces = matches!(edit.state, State::Gone);
            let turn = if is_last { turn } else { 0 };
            self.sums.set(edit, State::Made { content, replaces }, turn);
        }
    }

    /// Takes away a node that is seen, and all below it. Says how many these are.
    pub fn remove(&mut self, tree: &Tree, path: &Path) -> usize {
        let mut steps = path.steps();
        let Some(name) = steps.next_back() else {
            return 0;
        };
        let mut sums = core::mem::take(&mut self.sums);
        let gone = self.view(tree).nearest(path).node.walk(name);
        let count = gone.len();
        for (name, node) in gone {
            sums.node(name, node.value, node.perms, -1);
        }
        let turn = self.next_turn();
        let parent = sums.find(&mut self.root, steps);
        parent.list_changes = parent.list_changes.saturating_add(1);
        let old = parent.children.remove(name);
        if let Some(old) = &old {
            sums.forget(name, old);
        }
        // A node that the store never had leaves nothing.
        let leaves_nothing = old.is_some_and(|old| old.is_new());
        if !leaves_nothing {
            let edit = sums.child(parent, name);
            sums.set(edit, State::Gone, turn);
        }
        self.sums = sums;
        count
    }

    /// Does to the store what is in here. What the draft relied on must still hold.
    pub fn commit(self, tree: &mut Tree) -> Done {
        let (root, counts, stamp) = tree.parts();
        let mut commit = Commit {
            counts,
            stamp,
            path: PathBuf::root(),
            journal: Vec::new(),
            events: Vec::new(),
            nodes: 0,
        };
        if let State::Changed(content) = self.root.state {
            commit.change(root, content, self.root.turn);
        }
        commit.children(root, self.root.children);
        let Commit {
            journal,
            mut events,
            nodes,
            ..
        } = commit;
        events.sort_by_key(|(turn, _)| *turn);
        Done {
            journal,
            events: events.into_iter().map(|(_, event)| event).collect(),
            nodes,
        }
    }
}

/// A commit under way: one walk over both trees.
struct Commit<'t> {
    counts: &'t mut Counts,
    stamp: u64,
    path: PathBuf,
    journal: Vec<Entry>,
    events: Vec<(u32, Event)>,
    nodes: usize,
}

impl Commit<'_> {
    fn children(&mut self, parent: &mut Node, edits: BTreeMap<Arc<str>, Box<Edit>>) {
        for (name, edit) in edits {
            let above = self.path.push(&name);
            self.child(parent, name, *edit);
            self.path.pop(above);
        }
    }

    fn child(&mut self, parent: &mut Node, name: Arc<str>, edit: Edit) {
        match edit.state {
            State::Kept => {}
            State::Gone => return self.remove(parent, &name, edit.turn),
            State::Changed(content) => {
                if let Some(node) = parent.child_mut(&name) {
                    self.change(node, content, edit.turn);
                }
            }
            State::Made { content, replaces } => {
                if replaces {
                    self.remove(parent, &name, edit.turn);
                }
                self.make(parent, &name, &content, &edit.children);
                if edit.turn > 0 {
                    let event = Event::Changed(self.path.get(), None);
                    self.events.push((edit.turn, event));
                }
            }
        }
        if let Some(node) = parent.child_mut(&name) {
            self.children(node, edit.children);
        }
    }

    fn remove(&mut self, parent: &mut Node, name: &str, turn: u32) {
        if let Some(gone) = parent.take_child(name, self.stamp) {
            self.counts.gone(name, &gone);
            self.nodes = self.nodes.saturating_add(gone.count());
            let path = self.path.get();
            self.journal.push(Entry::Gone(path.clone()));
            self.events.push((turn, Event::Removed(path, gone)));
        }
    }

    fn change(&mut self, node: &mut Node, new: Content, turn: u32) {
        self.nodes = self.nodes.saturating_add(1);
        let path = self.path.get();
        let name = path.name();
        self.counts.node(name, &node.value, &node.perms, -1);
        self.counts.node(name, &new.value, &new.perms, 1);
        let old = (node.perms != new.perms).then(|| Arc::clone(&node.perms));
        node.set(new.value, new.perms, self.stamp);
        self.journal.push(Entry::Put(path.clone()));
        self.events.push((turn, Event::Changed(path, old)));
    }

    fn make(
        &mut self,
        parent: &mut Node,
        name: &Arc<str>,
        content: &Content,
        below: &BTreeMap<Arc<str>, Box<Edit>>,
    ) {
        self.nodes = self.nodes.saturating_add(1);
        let Content { value, perms } = content;
        self.counts.node(name, value, perms, 1);
        let node = Node::new(Arc::clone(value), Arc::clone(perms), self.stamp);
        parent.put_child(Arc::clone(name), node, self.stamp);
        // The record of a child makes its parents too, as they are if they are like it. It must be
        // the first that follows.
        let like_this = |edit: &Edit| edit.content().is_some_and(|child| child.perms == *perms);
        let first = below.values().next();
        let said_by_child = value.is_empty() && first.is_some_and(|edit| like_this(edit));
        if !said_by_child {
            self.journal.push(Entry::Put(self.path.get()));
        }
    }
}
