//! The tree of nodes.
//!
//! Each node carries two stamps from one counter: `own`, new when its value or permissions changed,
//! and `list`, new when a child came or went. Equal stamps mean equal content, because no stamp is
//! given twice. Transactions compare them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::path::Path;
use crate::perms::{DomId, Perms};

/// The bytes of a node beside its name, value and permissions: its place in the tree, rounded up.
pub const NODE_BYTES: usize = 384;

/// One node.
#[derive(Debug)]
pub struct Node {
    pub value: Arc<[u8]>,
    pub perms: Arc<Perms>,
    children: BTreeMap<Arc<str>, Box<Node>>,
    /// Bytes of the children's names, each with one more.
    names: usize,
    own: u64,
    list: u64,
}

/// The nodes that a domain owns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub nodes: u32,
    pub bytes: usize,
}

/// The nodes that each domain owns, and how often permissions name each domain.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    owned: BTreeMap<DomId, Usage>,
    named: BTreeMap<DomId, u32>,
}

/// The whole tree.
#[derive(Debug)]
pub struct Tree {
    root: Node,
    counts: Counts,
    stamp: u64,
}

/// The stamps of a node, for later comparison; `None` where there was none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamps {
    pub own: Option<u64>,
    pub list: Option<u64>,
}

/// The bytes that a node counts with against its owner's limit.
pub fn cost(name: &str, value: &[u8], perms: &Perms) -> usize {
    NODE_BYTES
        .saturating_add(name.len())
        .saturating_add(value.len())
        .saturating_add(perms.count().saturating_mul(8))
}

impl Node {
    pub(crate) fn new(value: Arc<[u8]>, perms: Arc<Perms>, stamp: u64) -> Self {
        Self {
            value,
            perms,
            children: BTreeMap::new(),
            names: 0,
            own: stamp,
            list: stamp,
        }
    }

    pub fn children(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.children.iter().map(|(name, node)| (&**name, &**node))
    }

    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.get(name).map(|node| &**node)
    }

    pub(crate) fn child_mut(&mut self, name: &str) -> Option<&mut Self> {
        self.children.get_mut(name).map(|node| &mut **node)
    }

    /// Changes whenever value or permissions do.
    pub const fn own_stamp(&self) -> u64 {
        self.own
    }

    /// Changes whenever the list of children does.
    pub const fn list_stamp(&self) -> u64 {
        self.list
    }

    /// Bytes of the children's names, each with its end.
    pub const fn names_len(&self) -> usize {
        self.names
    }

    /// Puts a child in, in the place of one that is there.
    pub(crate) fn put_child(&mut self, name: Arc<str>, node: Self, stamp: u64) {
        let len = name.len().saturating_add(1);
        if self.children.insert(name, Box::new(node)).is_none() {
            self.names = self.names.saturating_add(len);
        }
        self.list = stamp;
    }

    pub(crate) fn take_child(&mut self, name: &str, stamp: u64) -> Option<Box<Self>> {
        let gone = self.children.remove(name)?;
        self.names = self.names.saturating_sub(name.len().saturating_add(1));
        self.list = stamp;
        Some(gone)
    }

    pub(crate) fn set(&mut self, value: Arc<[u8]>, perms: Arc<Perms>, stamp: u64) {
        self.value = value;
        self.perms = perms;
        self.own = stamp;
    }

    /// This node and all below it, parents first, with paths that start at `path`.
    pub fn walk(&self, path: &Path) -> Vec<(Path, &Self)> {
        self.find(path, &|_| true)
    }

    /// The nodes of [`Self::walk`] whose permissions are `wanted`. No path is built for the others.
    pub fn find(&self, path: &Path, wanted: &dyn Fn(&Perms) -> bool) -> Vec<(Path, &Self)> {
        let mut found = Vec::new();
        let mut names = Vec::new();
        self.find_below(&mut names, wanted, &mut |names, node| {
            found.push((path.join_all(names), node));
        });
        found
    }

    fn find_below<'a>(
        &'a self,
        names: &mut Vec<&'a str>,
        wanted: &dyn Fn(&Perms) -> bool,
        found: &mut dyn FnMut(&[&str], &'a Self),
    ) {
        if wanted(&self.perms) {
            found(names, self);
        }
        for (name, child) in self.children() {
            names.push(name);
            child.find_below(names, wanted, found);
            names.pop();
        }
    }

    /// How many nodes these are, this one and all below it.
    pub fn count(&self) -> usize {
        let mut count = 0usize;
        let mut todo = vec![self];
        while let Some(node) = todo.pop() {
            count = count.saturating_add(1);
            todo.extend(node.children().map(|(_, child)| child));
        }
        count
    }
}

impl Counts {
    /// A node came (1) or went (-1).
    pub(crate) fn node(&mut self, name: &str, value: &[u8], perms: &Perms, by: i32) {
        let usage = self.owned.entry(perms.owner()).or_default();
        let bytes = cost(name, value, perms);
        usage.nodes = usage.nodes.saturating_add_signed(by);
        usage.bytes = if by < 0 {
            usage.bytes.saturating_sub(bytes)
        } else {
            usage.bytes.saturating_add(bytes)
        };
        if usage.nodes == 0 {
            self.owned.remove(&perms.owner());
        }
        for perm in perms.iter() {
            let count = self.named.entry(perm.domain).or_default();
            *count = count.saturating_add_signed(by);
            if *count == 0 {
                self.named.remove(&perm.domain);
            }
        }
    }

    /// A node and all below it went.
    pub(crate) fn gone(&mut self, name: &str, node: &Node) {
        let mut todo = vec![(name, node)];
        while let Some((name, node)) = todo.pop() {
            self.node(name, &node.value, &node.perms, -1);
            todo.extend(node.children());
        }
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// A root that is dom0's alone, as in Xen's store: what inherits from it tells other domains
    /// nothing.
    pub fn new() -> Self {
        let perms = Arc::new(Perms::private(0));
        let mut counts = Counts::default();
        counts.node("", &[], &perms, 1);
        Self {
            root: Node::new(Arc::default(), perms, 0),
            counts,
            stamp: 0,
        }
    }

    pub const fn root(&self) -> &Node {
        &self.root
    }

    pub fn get(&self, path: &Path) -> Option<&Node> {
        path.steps()
            .try_fold(&self.root, |node, name| node.child(name))
    }

    /// The nearest node at or above `path`, and the length of the part of `path` that leads there.
    pub fn nearest(&self, path: &Path) -> (usize, &Node) {
        let (mut len, mut node) = (1, &self.root);
        for name in path.steps() {
            let Some(child) = node.child(name) else {
                break;
            };
            node = child;
            len = path.next_len(len);
        }
        (len, node)
    }

    pub fn stamps(&self, path: &Path) -> Stamps {
        let node = self.get(path);
        Stamps {
            own: node.map(|n| n.own),
            list: node.map(|n| n.list),
        }
    }

    /// The nodes that a domain owns.
    pub fn usage(&self, domain: DomId) -> Usage {
        self.counts.owned.get(&domain).copied().unwrap_or_default()
    }

    /// Whether the permissions of any node name this domain.
    pub fn names(&self, domain: DomId) -> bool {
        self.counts.named.contains_key(&domain)
    }

    /// Changes a node's value. False if there is no such node.
    pub fn set_value(&mut self, path: &Path, value: impl Into<Arc<[u8]>>) -> bool {
        self.change(path, |node| (value.into(), Arc::clone(&node.perms)))
    }

    /// Changes a node's permissions. False if there is no such node.
    pub fn set_perms(&mut self, path: &Path, perms: impl Into<Arc<Perms>>) -> bool {
        self.change(path, |node| (Arc::clone(&node.value), perms.into()))
    }

    /// Changes both. False if there is no such node.
    pub fn set(&mut self, path: &Path, value: Arc<[u8]>, perms: Arc<Perms>) -> bool {
        self.change(path, |_| (value, perms))
    }

    fn change(&mut self, path: &Path, new: impl FnOnce(&Node) -> (Arc<[u8]>, Arc<Perms>)) -> bool {
        let stamp = self.next_stamp();
        let mut node = &mut self.root;
        for name in path.steps() {
            let Some(child) = node.child_mut(name) else {
                return false;
            };
            node = child;
        }
        let (value, perms) = new(node);
        let name = path.name();
        self.counts.node(name, &node.value, &node.perms, -1);
        self.counts.node(name, &value, &perms, 1);
        node.set(value, perms, stamp);
        true
    }

    /// Makes a node, and its parents where they are missing: with the same permissions, without a
    /// value. False if it is there.
    pub fn make(&mut self, path: &Path, perms: &Arc<Perms>, value: Arc<[u8]>) -> bool {
        let stamp = self.next_stamp();
        let (mut node, mut made) = (&mut self.root, false);
        let mut steps = path.steps().peekable();
        while let Some(name) = steps.next() {
            if node.child(name).is_none() {
                let value = if steps.peek().is_none() {
                    Arc::clone(&value)
                } else {
                    Arc::default()
                };
                self.counts.node(name, &value, perms, 1);
                node.put_child(
                    name.into(),
                    Node::new(value, Arc::clone(perms), stamp),
                    stamp,
                );
                made = true;
            }
            let Some(child) = node.child_mut(name) else {
                return false;
            };
            node = child;
        }
        made
    }

    /// Takes away a node and all below it; gives back what was there. The root stays.
    pub fn remove(&mut self, path: &Path) -> Option<Box<Node>> {
        let mut steps = path.steps();
        let name = steps.next_back()?;
        let stamp = self.next_stamp();
        let mut parent = &mut self.root;
        for name in steps {
            parent = parent.child_mut(name)?;
        }
        let gone = parent.take_child(name, stamp)?;
        self.counts.gone(name, &gone);
        Some(gone)
    }

    /// The root, the counts that must follow what is done to it, and a stamp for that.
    pub(crate) const fn parts(&mut self) -> (&mut Node, &mut Counts, u64) {
        let stamp = self.next_stamp();
        (&mut self.root, &mut self.counts, stamp)
    }

    const fn next_stamp(&mut self) -> u64 {
        self.stamp = self.stamp.wrapping_add(1);
        self.stamp
    }

    /// Whether the counts agree with the nodes. For the check command and for tests.
    pub fn is_consistent(&self) -> bool {
        let mut counts = Counts::default();
        let mut todo = vec![("", &self.root)];
        let mut names_agree = true;
        while let Some((name, node)) = todo.pop() {
            counts.node(name, &node.value, &node.perms, 1);
            let names: usize = node.children.keys().map(|name| name.len() + 1).sum();
            names_agree &= names == node.names;
            todo.extend(node.children());
        }
        names_agree && counts == self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        Path::absolute(text.to_owned()).unwrap()
    }

    #[test]
    fn counts_follow_what_is_done() {
        let mut tree = Tree::new();
        let (five, six) = (Arc::new(Perms::private(5)), Arc::new(Perms::private(6)));
        assert!(tree.make(&path("/a"), &five, Arc::default()));
        assert!(!tree.make(&path("/a"), &five, Arc::default()));
        let before = tree.stamps(&path("/a"));
        assert!(tree.make(&path("/a/b/c"), &six, (*b"v").into()));
        assert_eq!(&*tree.get(&path("/a/b/c")).unwrap().value, b"v");
        assert_eq!(&*tree.get(&path("/a/b")).unwrap().value, b"");
        let after = tree.stamps(&path("/a"));
        assert_eq!(before.own, after.own);
        assert_ne!(before.list, after.list);
        let nodes = |tree: &Tree, domain| tree.usage(domain).nodes;
        assert_eq!((nodes(&tree, 5), nodes(&tree, 6)), (1, 2));
        assert_eq!(tree.usage(6).bytes, 2 * (NODE_BYTES + 1 + 8) + 1);
        assert!(tree.set_value(&path("/a/b/c"), *b"longer"));
        assert_eq!(tree.usage(6).bytes, 2 * (NODE_BYTES + 1 + 8) + 6);
        assert!(tree.set_perms(&path("/a/b"), Perms::private(5)));
        assert_eq!((nodes(&tree, 5), nodes(&tree, 6)), (2, 1));
        assert_eq!(tree.nearest(&path("/a/b/x/d")).0, "/a/b".len());
        assert_eq!(tree.nearest(&path("/x/b")).0, "/".len());
        assert!(tree.is_consistent());
        assert_eq!(tree.remove(&path("/a")).unwrap().count(), 3);
        assert_eq!((tree.usage(5), tree.usage(6)), Default::default());
        assert_eq!(nodes(&tree, 0), 1);
        assert!(tree.remove(&Path::root()).is_none());
        assert!(tree.is_consistent());
    }

    #[test]
    fn a_node_made_again_is_another() {
        let mut tree = Tree::new();
        let perms = Arc::new(Perms::private(0));
        tree.make(&path("/a"), &perms, Arc::default());
        let stamps = tree.stamps(&path("/a"));
        tree.remove(&path("/a"));
        assert_eq!(tree.stamps(&path("/a")).own, None);
        tree.make(&path("/a"), &perms, Arc::default());
        assert_ne!(tree.stamps(&path("/a")), stamps);
    }

    #[test]
    fn the_deepest_path_is_as_good_as_another() {
        let mut tree = Tree::new();
        let deep = path(&"/a".repeat(1023));
        assert!(tree.make(&deep, &Arc::new(Perms::private(5)), Arc::default()));
        assert_eq!(tree.root().walk(&Path::root()).len(), 1024);
        assert_eq!(tree.remove(&path("/a")).unwrap().count(), 1023);
        assert!(tree.is_consistent());
    }
}
