//! Transactions: a frozen tree to work on, and what the work depended on.
//!
//! A commit does the changes again on the tree of that moment, if all nodes that the transaction's
//! outcomes depended on are still as they were at its start (and if nothing has changed at all, what
//! was done on its own tree is that already). So a committed transaction has seen
//! and done exactly what it would have at the instant of its commit: they are serializable.

use crate::access::{self, Caller, Change, Done, Trace};
use crate::error::StoreError;
use crate::quota::Quota;
use crate::tree::Tree;

/// Bytes of changes that a guest may gather in one transaction.
const GUEST_BYTES: usize = 256 * 1024;

/// One transaction under way.
#[derive(Debug)]
pub struct Transaction {
    start: Tree,
    work: Tree,
    trace: Trace,
    changes: Vec<Change>,
    /// What those did to `work`.
    done: Vec<Done>,
    bytes: usize,
    /// Its start is not known any more (the daemon was restarted): it can only be done again.
    lost: bool,
}

impl Transaction {
    pub fn new(tree: &Tree) -> Self {
        Self {
            start: tree.clone(),
            work: tree.clone(),
            trace: Trace::default(),
            changes: Vec::new(),
            done: Vec::new(),
            bytes: 0,
            lost: false,
        }
    }

    /// One that was open when the daemon died. It answers, and its commit asks for another try.
    pub fn lost(tree: &Tree) -> Self {
        Self {
            lost: true,
            ..Self::new(tree)
        }
    }

    /// The tree to read from, and where to note what was read.
    pub fn view(&mut self, who: Caller, quota: &Quota) -> Result<(&Tree, &mut Trace), StoreError> {
        self.check(who, quota)?;
        Ok((&self.work, &mut self.trace))
    }

    pub fn change(&mut self, change: Change, who: Caller, quota: &Quota) -> Result<(), StoreError> {
        self.check(who, quota)?;
        let done = access::apply(&mut self.work, &change, who, quota, &mut self.trace)?;
        self.done.push(done);
        self.bytes = self.bytes.saturating_add(change.size());
        self.changes.push(change);
        Ok(())
    }

    fn check(&self, who: Caller, quota: &Quota) -> Result<(), StoreError> {
        let nodes = quota.transaction_nodes as usize;
        let full =
            self.trace.count() >= nodes || self.changes.len() >= nodes || self.bytes >= GUEST_BYTES;
        if full && !who.is_privileged() {
            Err(StoreError::NoSpc)
        } else {
            Ok(())
        }
    }

    /// Makes the changes on `tree`, all or none.
    pub fn commit(
        self,
        tree: &mut Tree,
        who: Caller,
        quota: &Quota,
    ) -> Result<Vec<Done>, StoreError> {
        if !self.lost && self.start.is_same(tree) {
            *tree = self.work;
            return Ok(self.done);
        }
        if self.lost || !self.trace.holds(&self.start, tree) {
            return Err(StoreError::Again);
        }
        let mut next = tree.clone();
        let mut done = Vec::new();
        for change in &self.changes {
            done.push(access::apply(
                &mut next,
                change,
                who,
                quota,
                &mut Trace::ignored(),
            )?);
        }
        *tree = next;
        Ok(done)
    }
}
