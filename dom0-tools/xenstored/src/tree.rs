//! The nodes. A tree is a value: cloning it is cheap, and a clone never changes with the original,
//! which is what transactions need.
//!
//! Each node carries two stamps from one counter: `own`, new when its value or permissions changed,
//! and `list`, new when a child came or went. Equal stamps mean equal content, because no stamp is
//! given twice. Transactions compare them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::path::{Path, Steps};
use crate::perms::{DomId, Perms};

/// One node.
#[derive(Debug, Clone)]
pub struct Node {
    pub value: Arc<[u8]>,
    pub perms: Arc<Perms>,
    children: BTreeMap<Arc<str>, Arc<Node>>,
    own: u64,
    list: u64,
}

/// The whole tree, how many nodes each domain owns in it, and how often each is named in permissions.
#[derive(Debug, Clone)]
pub struct Tree {
    root: Arc<Node>,
    owned: BTreeMap<DomId, u32>,
    named: BTreeMap<DomId, u32>,
    stamp: u64,
}

/// What a node looked like, for later comparison; None where there was none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamps {
    pub own: Option<u64>,
    pub list: Option<u64>,
}

impl Node {
    fn new(perms: Arc<Perms>, stamp: u64) -> Self {
        Self {
            value: Arc::default(),
            perms,
            children: BTreeMap::new(),
            own: stamp,
            list: stamp,
        }
    }

    pub fn children(&self) -> impl Iterator<Item = (&str, &Arc<Self>)> {
        self.children.iter().map(|(name, node)| (&**name, node))
    }

    pub fn child(&self, name: &str) -> Option<&Arc<Self>> {
        self.children.get(name)
    }

    /// Changes whenever the list of children does.
    pub const fn list_stamp(&self) -> u64 {
        self.list
    }

    /// The bytes that count against a guest's limit.
    pub fn size(&self) -> usize {
        let names: usize = self
            .children
            .keys()
            .map(|n| n.len().saturating_add(1))
            .sum();
        names
            .saturating_add(self.value.len())
            .saturating_add(self.perms.count().saturating_mul(8))
    }

    /// This node and all below it, parents first, with paths that start at `path`.
    pub fn walk(self: &Arc<Self>, path: &Path) -> Vec<(Path, Arc<Self>)> {
        let mut all = Vec::new();
        let mut todo = vec![(path.clone(), Arc::clone(self))];
        while let Some((path, node)) = todo.pop() {
            todo.extend(
                node.children()
                    .map(|(name, child)| (path.join(name), Arc::clone(child))),
            );
            all.push((path, node));
        }
        all
    }

    /// Those of [`Self::walk`] whose permissions are `wanted`. The others cost no path.
    pub fn find(
        self: &Arc<Self>,
        path: &Path,
        wanted: &dyn Fn(&Perms) -> bool,
    ) -> Vec<(Path, Arc<Self>)> {
        let mut found = Vec::new();
        let mut names = Vec::new();
        self.find_below(&mut names, wanted, &mut |names, node| {
            let path = names
                .iter()
                .fold(path.clone(), |path, name| path.join(name));
            found.push((path, Arc::clone(node)));
        });
        found
    }

    fn find_below<'a>(
        self: &'a Arc<Self>,
        names: &mut Vec<&'a str>,
        wanted: &dyn Fn(&Perms) -> bool,
        found: &mut dyn FnMut(&[&str], &Arc<Self>),
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
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// A root that dom0 owns and everyone may read.
    pub fn new() -> Self {
        let everyone_reads = Perms::readable(0);
        Self {
            root: Arc::new(Node::new(Arc::new(everyone_reads), 0)),
            owned: BTreeMap::from([(0, 1)]),
            named: BTreeMap::from([(0, 1)]),
            stamp: 0,
        }
    }

    pub const fn root(&self) -> &Arc<Node> {
        &self.root
    }

    pub fn get(&self, path: &Path) -> Option<&Arc<Node>> {
        path.steps()
            .try_fold(&self.root, |node, name| node.children.get(name))
    }

    /// Has nothing changed between the two, of which one was cloned from the other?
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.root, &other.root)
    }

    /// The nearest node at or above `path`, and the length of the part of `path` that leads there.
    pub fn nearest(&self, path: &Path) -> (usize, &Arc<Node>) {
        let (mut len, mut node) = (1, &self.root);
        for name in path.steps() {
            let Some(child) = node.children.get(name) else {
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

    /// Nodes that a domain owns.
    pub fn owned_by(&self, domain: DomId) -> u32 {
        self.owned.get(&domain).copied().unwrap_or(0)
    }

    /// Do permissions of any node speak of this domain?
    pub fn names(&self, domain: DomId) -> bool {
        self.named.contains_key(&domain)
    }

    /// Changes a node's value. False if there is no such node.
    pub fn set_value(&mut self, path: &Path, value: impl Into<Arc<[u8]>>) -> bool {
        self.change(path, |node| node.value = value.into())
    }

    /// Changes a node's permissions. False if there is no such node.
    pub fn set_perms(&mut self, path: &Path, perms: Perms) -> bool {
        let Some(old) = self.get(path).map(|n| Arc::clone(&n.perms)) else {
            return false;
        };
        self.count(&old, -1);
        self.count(&perms, 1);
        self.change(path, |node| node.perms = Arc::new(perms))
    }

    fn change(&mut self, path: &Path, with: impl FnOnce(&mut Node)) -> bool {
        let stamp = self.next_stamp();
        let Some(node) = self.node_mut(path.steps()) else {
            return false;
        };
        with(node);
        node.own = stamp;
        true
    }

    /// Adds an empty child. False if the parent is missing or the child is there.
    pub fn add(&mut self, path: &Path, perms: impl Into<Arc<Perms>>) -> bool {
        self.add_with(path, perms.into(), Arc::default())
    }

    /// The same, with a value.
    pub fn add_with(&mut self, path: &Path, perms: Arc<Perms>, value: Arc<[u8]>) -> bool {
        let mut steps = path.steps();
        let Some(name) = steps.next_back() else {
            return false;
        };
        let stamp = self.next_stamp();
        let Some(parent) = self.node_mut(steps) else {
            return false;
        };
        if parent.children.contains_key(name) {
            return false;
        }
        parent.list = stamp;
        let node = Node {
            value,
            ..Node::new(Arc::clone(&perms), stamp)
        };
        parent.children.insert(name.into(), Arc::new(node));
        self.count(&perms, 1);
        true
    }

    /// Takes away a node and all below it; gives back what was there. The root stays.
    pub fn remove(&mut self, path: &Path) -> Option<Arc<Node>> {
        let mut steps = path.steps();
        let name = steps.next_back()?;
        self.get(path)?;
        let stamp = self.next_stamp();
        let parent = self.node_mut(steps)?;
        let gone = parent.children.remove(name)?;
        parent.list = stamp;
        let mut todo = vec![&gone];
        while let Some(node) = todo.pop() {
            self.count(&node.perms, -1);
            todo.extend(node.children.values());
        }
        Some(gone)
    }

    /// A node to change; copies what other trees share on the way.
    fn node_mut(&mut self, steps: Steps<'_>) -> Option<&mut Node> {
        let mut node = Arc::make_mut(&mut self.root);
        for name in steps {
            node = Arc::make_mut(node.children.get_mut(name)?);
        }
        Some(node)
    }

    const fn next_stamp(&mut self) -> u64 {
        self.stamp = self.stamp.wrapping_add(1);
        self.stamp
    }

    fn count(&mut self, perms: &Perms, by: i32) {
        add(&mut self.owned, perms.owner(), by);
        for perm in perms.iter() {
            add(&mut self.named, perm.domain, by);
        }
    }

    /// Do the counts agree with the nodes? For the check command and for tests.
    pub fn is_consistent(&self) -> bool {
        let (mut owned, mut named) = (BTreeMap::new(), BTreeMap::new());
        for (_, node) in self.root.walk(&Path::root()) {
            add(&mut owned, node.perms.owner(), 1);
            for perm in node.perms.iter() {
                add(&mut named, perm.domain, 1);
            }
        }
        owned == self.owned && named == self.named
    }
}

/// Adds to a count; at zero there is none.
fn add(counts: &mut BTreeMap<DomId, u32>, domain: DomId, by: i32) {
    let count = counts.entry(domain).or_default();
    *count = count.saturating_add_signed(by);
    if *count == 0 {
        counts.remove(&domain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        Path::absolute(text.to_owned()).unwrap()
    }

    #[test]
    fn clones_do_not_change() {
        let mut tree = Tree::new();
        assert!(tree.add(&path("/a"), Perms::private(5)));
        assert!(!tree.add(&path("/a"), Perms::private(5)));
        assert!(!tree.add(&path("/x/y"), Perms::private(5)));
        let before = tree.clone();
        assert!(tree.add(&path("/a/b"), Perms::private(6)));
        assert!(tree.set_value(&path("/a/b"), *b"v"));
        assert!(before.get(&path("/a/b")).is_none());
        assert_eq!(&*tree.get(&path("/a/b")).unwrap().value, b"v");
        assert_eq!(
            (tree.owned_by(5), tree.owned_by(6), before.owned_by(6)),
            (1, 1, 0)
        );
        assert_eq!(before.stamps(&path("/a")).own, tree.stamps(&path("/a")).own);
        assert_ne!(
            before.stamps(&path("/a")).list,
            tree.stamps(&path("/a")).list
        );
        assert_eq!(tree.nearest(&path("/a/b/c/d")).0, "/a/b".len());
        assert_eq!(tree.nearest(&path("/x/b")).0, "/".len());
        assert!(tree.remove(&path("/a")).is_some());
        assert_eq!(
            (tree.owned_by(5), tree.owned_by(6), tree.owned_by(0)),
            (0, 0, 1)
        );
        assert!(tree.remove(&Path::root()).is_none());
        assert!(tree.is_consistent() && before.is_consistent());
    }

    #[test]
    fn a_node_made_again_is_another() {
        let mut tree = Tree::new();
        tree.add(&path("/a"), Perms::private(0));
        let stamps = tree.stamps(&path("/a"));
        tree.remove(&path("/a"));
        assert_eq!(tree.stamps(&path("/a")).own, None);
        tree.add(&path("/a"), Perms::private(0));
        assert_ne!(tree.stamps(&path("/a")), stamps);
    }
}
