//! The rules of reading and changing nodes: rights, effects and errors.

use std::sync::Arc;

use crate::caller::{Caller, Limits};
use crate::edit::Content;
use crate::error::StoreError;
use crate::outcome::{Done, Entry, Event};
use crate::path::Path;
use crate::perms::Perms;
use crate::transaction::Transaction;
use crate::tree::{Tree, cost};
use crate::view::{Nearest, NodeView, View};

type Result<T> = core::result::Result<T, StoreError>;

/// A requested change of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Write(Path, Arc<[u8]>),
    Mkdir(Path),
    Remove(Path),
    SetPerms(Path, Perms),
}

impl Change {
    pub fn value_len(&self) -> usize {
        match self {
            Self::Write(_, value) => value.len(),
            Self::Mkdir(_) | Self::Remove(_) | Self::SetPerms(..) => 0,
        }
    }

    pub const fn path(&self) -> &Path {
        match self {
            Self::Write(path, _)
            | Self::Mkdir(path)
            | Self::Remove(path)
            | Self::SetPerms(path, _) => path,
        }
    }
}

/// The nodes that a change works on.
pub enum Target<'a> {
    Store(&'a mut Tree),
    /// A transaction's view of the store. What is done there is published at its commit.
    Transaction(&'a Tree, &'a mut Transaction),
}

impl Target<'_> {
    fn nearest(&mut self, path: &Path) -> Nearest<'_> {
        match self {
            Self::Store(tree) => View::of_store(tree).nearest(path),
            Self::Transaction(tree, transaction) => transaction.nearest(tree, path, false),
        }
    }

    fn view(&self) -> View<'_> {
        match self {
            Self::Store(tree) => View::of_store(tree),
            Self::Transaction(tree, transaction) => transaction.view(tree),
        }
    }

    fn set(&mut self, path: &Path, old: &Content, new: Content) {
        match self {
            Self::Store(tree) => {
                tree.set(path, new.value, new.perms);
            }
            Self::Transaction(_, transaction) => transaction.draft.set(path, old, new),
        }
    }

    fn make(&mut self, path: &Path, known: usize, content: &Content) {
        match self {
            Self::Store(tree) => {
                tree.make(path, &content.perms, Arc::clone(&content.value));
            }
            Self::Transaction(_, transaction) => transaction.draft.make(path, known, content),
        }
    }

    fn remove(&mut self, path: &Path) -> Done {
        match self {
            Self::Store(tree) => tree.remove(path).map_or_else(Done::default, |gone| Done {
                nodes: gone.count(),
                journal: vec![Entry::Gone(path.clone())],
                events: vec![Event::Removed(path.clone(), gone)],
            }),
            Self::Transaction(tree, transaction) => Done {
                nodes: transaction.draft.remove(tree, path),
                ..Done::default()
            },
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Right {
    Read,
    Write,
    Own,
}

/// The node, if the caller has the right. The error reveals nothing that the caller may not see.
fn found<'a>(
    nearest: &Nearest<'a>,
    path: &Path,
    who: Caller,
    right: Right,
) -> Result<NodeView<'a>> {
    let perms = nearest.node.perms;
    let allowed = match right {
        Right::Read => who.may_read(perms),
        Right::Write => who.may_write(perms),
        Right::Own => who.owns(perms),
    };
    // A node that exists but is forbidden: the nearest readable one above cannot turn that into
    // more.
    match (allowed, nearest.known == path.as_str().len()) {
        (true, true) => Ok(nearest.node),
        (true, false) => Err(StoreError::NoEnt),
        (false, _) => Err(StoreError::Acces),
    }
}

/// A node to read.
pub fn read<'a>(nearest: &Nearest<'a>, path: &Path, who: Caller) -> Result<NodeView<'a>> {
    found(nearest, path, who, Right::Read)
}

/// Makes a change, or nothing of it.
pub fn apply(
    mut target: Target<'_>,
    change: &Change,
    who: Caller,
    limits: &Limits<'_>,
) -> Result<Done> {
    match change {
        Change::Write(path, value) => write(&mut target, path, Some(value), who, limits),
        Change::Mkdir(path) => write(&mut target, path, None, who, limits),
        Change::Remove(path) => remove(&mut target, path, who),
        Change::SetPerms(path, perms) => set_perms(&mut target, path, perms, who, limits),
    }
}

fn write(
    target: &mut Target<'_>,
    path: &Path,
    value: Option<&Arc<[u8]>>,
    who: Caller,
    limits: &Limits<'_>,
) -> Result<Done> {
    let nearest = target.nearest(path);
    match found(&nearest, path, who, Right::Write) {
        Ok(_) if value.is_none() => return Ok(Done::default()),
        Ok(_) | Err(StoreError::NoEnt) => {}
        Err(error) => return Err(error),
    }
    let known = nearest.known;
    let old = nearest.node.content();
    let value = value.map(Arc::clone).unwrap_or_default();
    if !who.is_privileged() {
        let size = nearest.node.size();
        let asked = Asked {
            path,
            known,
            old: &old,
            size,
            value: &value,
        };
        asked.check(target.view(), who, limits)?;
    }
    if known == path.as_str().len() {
        let perms = Arc::clone(&old.perms);
        target.set(path, &old, Content { value, perms });
    } else {
        // A new node inherits permissions; a guest owns what it makes.
        let mut perms = Arc::clone(&old.perms);
        if !who.is_privileged() && perms.owner() != who.domain {
            Arc::make_mut(&mut perms).set_owner(who.domain);
        }
        target.make(path, known, &Content { value, perms });
    }
    Ok(Done::put(path, None))
}

/// A guest's write that is about to be done.
struct Asked<'a> {
    path: &'a Path,
    /// The length of the part of the path that leads to the nearest node.
    known: usize,
    /// The content and the size of that node.
    old: &'a Content,
    size: usize,
    value: &'a [u8],
}

impl Asked<'_> {
    fn check(&self, view: View<'_>, who: Caller, limits: &Limits<'_>) -> Result<()> {
        if self.known == self.path.as_str().len() {
            self.check_change(view, who, limits)
        } else {
            self.check_new(view, who, limits)
        }
    }

    /// Checks a write to an existing node. A node that does not grow may exceed limits that were
    /// lowered since.
    fn check_change(&self, view: View<'_>, who: Caller, limits: &Limits<'_>) -> Result<()> {
        let Some(more) = self.value.len().checked_sub(self.old.value.len()) else {
            return Ok(());
        };
        if more == 0 {
            return Ok(());
        }
        let size = self.size.saturating_add(more);
        // The memory is the owner's, who allowed the write.
        let owner = self.old.perms.owner();
        let mut usage = view.usage(owner);
        usage.bytes = usage.bytes.saturating_add(more);
        let held = if owner == who.domain { limits.held } else { 0 };
        let memory = usage.bytes.saturating_add(held) <= limits.quota.memory as usize;
        if size <= limits.quota.node_size as usize && (memory || owner == 0) {
            Ok(())
        } else {
            Err(StoreError::NoSpc)
        }
    }

    /// Checks a write that creates the node, and perhaps some of its parents.
    fn check_new(&self, view: View<'_>, who: Caller, limits: &Limits<'_>) -> Result<()> {
        let limit = limits.quota.node_size as usize;
        let perms = &self.old.perms;
        let bare = perms.count().saturating_mul(8);
        let mut usage = view.usage(who.domain);
        // The parent's size, with the name of its child.
        let mut parent = self.size;
        let mut too_big = bare.saturating_add(self.value.len()) > limit;
        for name in self.path.steps_after(self.known) {
            too_big |= parent.saturating_add(name.len()).saturating_add(1) > limit;
            parent = bare;
            usage.nodes = usage.nodes.saturating_add(1);
            usage.bytes = usage.bytes.saturating_add(cost(name, &[], perms));
        }
        usage.bytes = usage.bytes.saturating_add(self.value.len());
        if too_big || !limits.allow(usage) {
            Err(StoreError::NoSpc)
        } else {
            Ok(())
        }
    }
}

fn remove(target: &mut Target<'_>, path: &Path, who: Caller) -> Result<Done> {
    let nearest = target.nearest(path);
    match found(&nearest, path, who, Right::Write) {
        Ok(_) if path.is_root() => Err(StoreError::Inval),
        Ok(_) => Ok(target.remove(path)),
        // A missing node counts as removed, if its parent exists.
        Err(StoreError::NoEnt) if path.next_len(nearest.known) == path.as_str().len() => {
            Ok(Done::default())
        }
        Err(error) => Err(error),
    }
}

fn set_perms(
    target: &mut Target<'_>,
    path: &Path,
    perms: &Perms,
    who: Caller,
    limits: &Limits<'_>,
) -> Result<Done> {
    if !who.is_privileged() && perms.count() > limits.quota.permissions as usize {
        return Err(StoreError::NoSpc);
    }
    let old = found(&target.nearest(path), path, who, Right::Own)?.content();
    if !who.is_privileged() && perms.owner() != old.perms.owner() {
        return Err(StoreError::Perm);
    }
    let (value, perms) = (Arc::clone(&old.value), Arc::new(perms.clone()));
    target.set(path, &old, Content { value, perms });
    Ok(Done::put(path, Some(old.perms)))
}

#[cfg(test)]
mod tests;
