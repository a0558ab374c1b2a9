//! A hypercall under way: who makes it, its registers, and what is left of the entry's budget.

use alloc::sync::Arc;

use super::super::budget::{Budget, Work};
use crate::domain::Domain;
use crate::machine::Machine;
use crate::seams::LinearMemory;
use crate::vcpu::Vcpu;

/// A hypercall under way.
pub struct Call<'a> {
    /// The vcpu that makes the call.
    pub vcpu: &'a Arc<Vcpu>,
    /// The argument registers. A handler may change those that are arguments of its hypercall; they
    /// reach the guest if the call is executed again.
    pub args: [u64; 6],
    pub(super) linear: &'a dyn LinearMemory,
    budget: Budget,
}

impl<'a> Call<'a> {
    /// A call with a full budget. `linear` is the caller's memory by linear address.
    pub fn new(vcpu: &'a Arc<Vcpu>, linear: &'a dyn LinearMemory, args: [u64; 6]) -> Self {
        Self {
            vcpu,
            args,
            linear,
            budget: Budget::full(),
        }
    }

    /// A call within this one. It begins with what is left of this one's budget.
    pub(in super::super) fn inner(&self, args: [u64; 6]) -> Self {
        Self {
            vcpu: self.vcpu,
            args,
            linear: self.linear,
            budget: self.budget.clone(),
        }
    }

    /// Takes back the budget that a call within this one has left.
    pub(in super::super) fn take_budget(&mut self, inner: &Self) {
        self.budget = inner.budget.clone();
    }

    /// A new entry of the hypervisor begins.
    pub(crate) fn enter(&mut self) {
        self.budget = Budget::full();
    }

    /// Identifies the caller's address space.
    pub(in super::super) fn space(&self) -> u64 {
        self.linear.space()
    }

    /// Counts work that was done, or is about to be.
    pub fn spend(&self, work: Work, count: u64) {
        self.budget.spend(work, count);
    }

    /// Whether this entry has done as much as it may. Then the call stops and goes on later.
    pub fn is_spent(&self) -> bool {
        self.budget.is_spent()
    }

    /// The caller's domain.
    pub fn domain(&self) -> &Arc<Domain> {
        &self.vcpu.domain
    }

    /// The machine that the caller's domain is on.
    pub fn machine(&self) -> &'static Machine {
        self.vcpu.domain.machine
    }
}
