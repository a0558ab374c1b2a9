//! Shadow page tables: the tables that the CPU walks for guests without nested paging.
//!
//! A [`DomainShadow`] is the cache of a domain's shadows, kept in step with the p2m. A
//! [`VcpuShadow`] has the root that the CPU's CR3 holds. [`fault`] walks the guest's tables at a
//! page fault and returns what the fault means; a page that the guest may use goes into the cache.
//!
//! Without the feature `shadow` the first two have no values, and the compiler drops what would use
//! them.

pub(crate) mod cache;
mod domain;
mod fault;
mod seams;
#[cfg(test)]
pub(crate) mod tests;
mod vcpu;

use oxen_types::Part;

pub use domain::DomainShadow;
pub use fault::{Answer, Fill, fault};
pub use seams::{Change, Counts, P2mFlush, ShadowSpace};
pub use vcpu::VcpuShadow;

#[cfg(feature = "shadow")]
type Built = oxen_types::Present;
#[cfg(not(feature = "shadow"))]
type Built = oxen_types::Absent;

/// Whether this hypervisor can run guests without nested paging.
pub const SHADOW: bool = Built::BUILT.is_some();
