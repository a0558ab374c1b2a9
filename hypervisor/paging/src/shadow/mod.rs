//! Shadow page tables: the tables that the CPU walks for guests without nested paging.
//!
//! [`fault`] walks the guest's tables at a page fault and returns what the fault means. A page that the guest may use
//! goes into the [`Cache`], in which each vcpu has a [`View`]: the root that the CPU's CR3 holds.

pub(crate) mod cache;
mod fault;
#[cfg(test)]
pub(crate) mod tests;

pub use cache::{Allowance, Cache, Counts, FEWEST_PAGES, ShadowedGuest, View};
pub use fault::{Answer, Fill, ShadowSpace, control_bits, fault};
