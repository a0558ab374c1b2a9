//! Transactions: a draft of changes, and the nodes of the store on which it depended.
//!
//! A transaction reads the store as it is, under its own changes, and keeps nothing of it but
//! stamps. It commits if all nodes that its outcomes depended on are still as they were when it
//! looked. So a committed transaction has seen and done exactly what it would have at the instant
//! of its commit: they are serializable. One that was disturbed may see parts of two states; it
//! cannot commit.

use crate::caller::{Caller, Limits};
use crate::draft::Draft;
use crate::edit::EDIT_BYTES;
use crate::error::StoreError;
use crate::outcome::Done;
use crate::path::Path;
use crate::trace::{LOOK_BYTES, Trace};
use crate::tree::Tree;
use crate::view::{Nearest, View};

/// The bytes of a transaction that has not done anything yet.
const BYTES: usize = 512;

/// One transaction under way.
#[derive(Debug, Default)]
pub struct Transaction {
    pub(crate) draft: Draft,
    trace: Trace,
}

impl Transaction {
    /// A transaction that was open when the daemon died. Its requests get replies, and its commit
    /// fails with EAGAIN.
    pub fn lost() -> Self {
        Self {
            draft: Draft::default(),
            trace: Trace::broken(),
        }
    }

    /// The memory of the transaction, in bytes.
    pub const fn bytes(&self) -> usize {
        BYTES
            .saturating_add(self.draft.bytes())
            .saturating_add(self.trace.bytes())
    }

    /// The number of nodes that the transaction has changed or looked at.
    pub const fn count(&self) -> usize {
        self.draft.count().saturating_add(self.trace.count())
    }

    pub const fn view<'a>(&'a self, tree: &'a Tree) -> View<'a> {
        self.draft.view(tree)
    }

    /// Looks for a node, also for the list of its children if `list`.
    pub fn nearest<'a>(&'a mut self, tree: &'a Tree, path: &Path, list: bool) -> Nearest<'a> {
        let nearest = self.draft.view(tree).nearest(path);
        self.trace.note(path, &nearest.notes, list);
        nearest
    }

    /// Checks whether the transaction may go on with a request about `path`, with a value of `len`
    /// bytes.
    pub fn check(
        &self,
        tree: &Tree,
        path: &Path,
        len: usize,
        who: Caller,
        limits: &Limits<'_>,
    ) -> Result<(), StoreError> {
        if who.is_privileged() {
            return Ok(());
        }
        let nodes = limits.quota.transaction_nodes as usize;
        let full = self.trace.count() >= nodes || self.draft.count() >= nodes;
        // Each level of the path may be new to both.
        let level = LOOK_BYTES.saturating_add(EDIT_BYTES);
        let growth = path
            .steps()
            .count()
            .saturating_mul(level)
            .saturating_add(path.as_str().len().saturating_mul(2))
            .saturating_add(len);
        let memory = tree
            .usage(who.domain)
            .bytes
            .saturating_add(limits.held)
            .saturating_add(growth);
        if full || memory > limits.quota.memory as usize {
            return Err(StoreError::NoSpc);
        }
        Ok(())
    }

    /// Makes the changes on `tree`, all or none.
    pub fn commit(
        self,
        tree: &mut Tree,
        who: Caller,
        limits: &Limits<'_>,
    ) -> Result<Done, StoreError> {
        if !self.trace.holds(tree) {
            return Err(StoreError::Again);
        }
        // Nodes that the domain made outside of the transaction count too.
        let growth = self.draft.owned(who.domain);
        let after = growth.on(tree.usage(who.domain));
        if !who.is_privileged() && growth.grows() && !limits.allow(after) {
            return Err(StoreError::NoSpc);
        }
        Ok(self.draft.commit(tree))
    }
}
