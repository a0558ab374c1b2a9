//! How much one entry to the hypervisor may do before the CPU looks at its other work.
//!
//! There is one budget for each entry. The calls of a multicall share it, so a list of calls costs
//! no more than one call. A handler that loops spends for each step, and stops with [`Stop::Again`]
//! once nothing is left. Each entry begins with a full budget, so each gets on by a step at least.
//!
//! [`Stop::Again`]: super::Stop::Again

use core::cell::Cell;

/// The unit is about a tenth of a microsecond: an entry ends after half a millisecond or so.
const FULL: u32 = 4096;

/// The kinds of work that a handler spends its budget on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// One page cleared, or taken out of a guest's memory.
    Page,
    /// One operation of a list: a grant mapped or copied, a page put elsewhere.
    Operation,
    /// One call of a multicall.
    Call,
    /// One flush of a guest's translations. Other CPUs are interrupted and waited for.
    Flush,
}

impl Work {
    const fn weight(self) -> u32 {
        match self {
            Self::Page => 8,
            Self::Operation => 32,
            Self::Call => 64,
            Self::Flush => 128,
        }
    }
}

/// The rest of an entry's budget.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    left: Cell<u32>,
}

impl Budget {
    pub(super) fn full() -> Self {
        Self {
            left: Cell::new(FULL),
        }
    }

    pub(super) fn spend(&self, work: Work, count: u64) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let cost = work.weight().saturating_mul(count);
        self.left.set(self.left.get().saturating_sub(cost));
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left.get() == 0
    }
}
