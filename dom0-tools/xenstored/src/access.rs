//! The rules of reading and changing nodes: who may, what it does, and what the error tells.
//!
//! Every function here notes in a [`Trace`] which nodes its outcome depended on. A transaction whose
//! traced nodes are unchanged at its end would see and do the same again, so it may commit.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::StoreError;
use crate::path::Path;
use crate::perms::{Access, DomId, Perms};
use crate::quota::Quota;
use crate::tree::{Node, Tree};

type Result<T> = core::result::Result<T, StoreError>;

/// On whose behalf something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub domain: DomId,
    /// The domain that this one serves and has the rights of.
    pub target: Option<DomId>,
}

impl Caller {
    pub const DOM0: Self = Self {
        domain: 0,
        target: None,
    };

    pub const fn is_privileged(self) -> bool {
        self.domain == 0
    }

    pub fn access(self, perms: &Perms) -> Access {
        let own = perms.access(self.domain);
        match self.target.map(|t| perms.access(t)) {
            Some(other)
                if own.may_read() | other.may_read() && own.may_write() | other.may_write() =>
            {
                Access::Both
            }
            Some(other) if own == Access::None => other,
            _ => own,
        }
    }

    pub fn may_read(self, perms: &Perms) -> bool {
        self.access(perms).may_read()
    }

    fn may_write(self, perms: &Perms) -> bool {
        self.access(perms).may_write()
    }

    fn owns(self, perms: &Perms) -> bool {
        self.is_privileged() || perms.owner() == self.domain || Some(perms.owner()) == self.target
    }
}

/// What of a node an outcome depended on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    pub own: bool,
    pub list: bool,
}

/// The nodes that outcomes depended on.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    seen: HashMap<Path, Seen>,
    /// Nobody will ask.
    ignored: bool,
}

impl Trace {
    /// For what is done outside of transactions.
    pub fn ignored() -> Self {
        Self {
            ignored: true,
            ..Self::default()
        }
    }

    fn own(&mut self, path: &Path) {
        if !self.ignored {
            self.seen.entry(path.clone()).or_default().own = true;
        }
    }

    fn list(&mut self, path: &Path) {
        if !self.ignored {
            self.seen.entry(path.clone()).or_default().list = true;
        }
    }

    pub fn count(&self) -> usize {
        self.seen.len()
    }

    /// Is all that was seen in `then` the same `now`?
    pub fn holds(&self, then: &Tree, now: &Tree) -> bool {
        self.seen.iter().all(|(path, seen)| {
            let (a, b) = (then.stamps(path), now.stamps(path));
            (!seen.own || a.own == b.own) && (!seen.list || a.list == b.list)
        })
    }
}

/// A change of the tree, as asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Write(Path, Arc<[u8]>),
    Mkdir(Path),
    Remove(Path),
    SetPerms(Path, Perms),
}

impl Change {
    /// The bytes that it keeps in memory while its transaction is open.
    pub fn size(&self) -> usize {
        match self {
            Self::Write(path, value) => path.as_str().len().saturating_add(value.len()),
            Self::Mkdir(path) | Self::Remove(path) | Self::SetPerms(path, _) => path.as_str().len(),
        }
    }
}

/// What a change did; nothing of it for a mkdir of what is there.
#[derive(Debug, Clone, Default)]
pub struct Done {
    /// Nodes that were made or changed, parents first.
    pub touched: Vec<Path>,
    /// The node that watches are told of, with the permissions it had if they changed.
    pub event: Option<(Path, Option<Arc<Perms>>)>,
    /// What was taken away.
    pub removed: Option<(Path, Arc<Node>)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Right {
    Read,
    Write,
    Own,
}

/// The node, if the caller has the right. The error tells nothing of what the caller may not see.
fn node<'t>(
    tree: &'t Tree,
    path: &Path,
    who: Caller,
    right: Right,
    trace: &mut Trace,
) -> Result<&'t Arc<Node>> {
    trace.own(path);
    let allowed = |perms: &Perms| match right {
        Right::Read => who.may_read(perms),
        Right::Write => who.may_write(perms),
        Right::Own => who.owns(perms),
    };
    let (known, node) = tree.nearest(path);
    if known == path.as_str().len() {
        // A node that exists but is forbidden: the nearest readable one above cannot turn that into more.
        return if allowed(&node.perms) {
            Ok(node)
        } else {
            Err(StoreError::Acces)
        };
    }
    trace.own(&path.upto(known));
    // While the first missing node stays missing, so does all below it.
    let missing = path.next_len(known);
    if missing < path.as_str().len() {
        trace.own(&path.upto(missing));
    }
    Err(if allowed(&node.perms) {
        StoreError::NoEnt
    } else {
        StoreError::Acces
    })
}

/// A node to read the value or permissions of.
pub fn read<'t>(
    tree: &'t Tree,
    path: &Path,
    who: Caller,
    trace: &mut Trace,
) -> Result<&'t Arc<Node>> {
    node(tree, path, who, Right::Read, trace)
}

/// A node to read the names of children of.
pub fn list<'t>(
    tree: &'t Tree,
    path: &Path,
    who: Caller,
    trace: &mut Trace,
) -> Result<&'t Arc<Node>> {
    trace.list(path);
    node(tree, path, who, Right::Read, trace)
}

/// Makes a change, or nothing of it.
pub fn apply(
    tree: &mut Tree,
    change: &Change,
    who: Caller,
    quota: &Quota,
    trace: &mut Trace,
) -> Result<Done> {
    match change {
        Change::Write(path, value) => write(tree, path, Some(value), who, quota, trace),
        Change::Mkdir(path) => write(tree, path, None, who, quota, trace),
        Change::Remove(path) => remove(tree, path, who, trace),
        Change::SetPerms(path, perms) => set_perms(tree, path, perms, who, quota, trace),
    }
}

fn write(
    tree: &mut Tree,
    path: &Path,
    value: Option<&Arc<[u8]>>,
    who: Caller,
    quota: &Quota,
    trace: &mut Trace,
) -> Result<Done> {
    let exists = match node(tree, path, who, Right::Write, trace) {
        Ok(_) if value.is_none() => return Ok(Done::default()),
        Ok(_) => true,
        Err(StoreError::NoEnt) => false,
        Err(error) => return Err(error),
    };
    if !who.is_privileged() {
        check(tree, path, value.map_or(0, |value| value.len()), who, quota)?;
    }
    let value = value.map(Arc::clone).unwrap_or_default();
    let touched = if exists {
        tree.set_value(path, value);
        vec![path.clone()]
    } else {
        create(tree, path, value, who, trace)
    };
    Ok(Done {
        touched,
        event: Some((path.clone(), None)),
        removed: None,
    })
}

/// Makes a node and its missing parents. They inherit permissions; a guest owns what it makes.
fn create(
    tree: &mut Tree,
    path: &Path,
    value: Arc<[u8]>,
    who: Caller,
    trace: &mut Trace,
) -> Vec<Path> {
    let (mut known, above) = tree.nearest(path);
    let mut perms = Arc::clone(&above.perms);
    if !who.is_privileged() && perms.owner() != who.domain {
        Arc::make_mut(&mut perms).set_owner(who.domain);
    }
    let mut made = Vec::new();
    loop {
        known = path.next_len(known);
        let at = path.upto(known);
        trace.own(&at);
        if known == path.as_str().len() {
            tree.add_with(&at, perms, value);
            made.push(at);
            return made;
        }
        tree.add(&at, Arc::clone(&perms));
        made.push(at);
    }
}

/// A guest's limits on nodes and their size, for a write of `len` bytes that is about to be done.
fn check(tree: &Tree, path: &Path, len: usize, who: Caller, quota: &Quota) -> Result<()> {
    let limit = quota.node_size as usize;
    let (known, above) = tree.nearest(path);
    let known = path.upto(known).steps().count();
    let new: Vec<&str> = path.steps().skip(known).collect();
    let Some(first) = new.first() else {
        let after = above
            .size()
            .saturating_sub(above.value.len())
            .saturating_add(len);
        let grows = len > above.value.len();
        return if grows && after > limit {
            Err(StoreError::NoSpc)
        } else {
            Ok(())
        };
    };
    let nodes = (tree.owned_by(who.domain) as usize).saturating_add(new.len());
    let bare = above.perms.count().saturating_mul(8);
    let with_name = |size: usize, name: &str| size.saturating_add(name.len()).saturating_add(1);
    let too_big = with_name(above.size(), first) > limit
        || new.iter().skip(1).any(|name| with_name(bare, name) > limit)
        || bare.saturating_add(len) > limit;
    if too_big || nodes > quota.nodes as usize {
        Err(StoreError::NoSpc)
    } else {
        Ok(())
    }
}

fn remove(tree: &mut Tree, path: &Path, who: Caller, trace: &mut Trace) -> Result<Done> {
    match node(tree, path, who, Right::Write, trace) {
        Ok(_) => {}
        Err(StoreError::NoEnt) => {
            // What is not there is removed already, if its parent is.
            let parent = path.parent().ok_or(StoreError::Inval)?;
            trace.own(&parent);
            return if tree.get(&parent).is_some() {
                Ok(Done::default())
            } else {
                Err(StoreError::NoEnt)
            };
        }
        Err(error) => return Err(error),
    }
    let gone = tree.remove(path).ok_or(StoreError::Inval)?;
    Ok(Done {
        touched: Vec::new(),
        event: None,
        removed: Some((path.clone(), gone)),
    })
}

fn set_perms(
    tree: &mut Tree,
    path: &Path,
    perms: &Perms,
    who: Caller,
    quota: &Quota,
    trace: &mut Trace,
) -> Result<Done> {
    if !who.is_privileged() && perms.count() > quota.permissions as usize {
        return Err(StoreError::NoSpc);
    }
    let old = Arc::clone(&node(tree, path, who, Right::Own, trace)?.perms);
    if !who.is_privileged() && perms.owner() != old.owner() {
        return Err(StoreError::Perm);
    }
    tree.set_perms(path, perms.clone());
    Ok(Done {
        touched: vec![path.clone()],
        event: Some((path.clone(), Some(old))),
        removed: None,
    })
}

#[cfg(test)]
mod tests;
