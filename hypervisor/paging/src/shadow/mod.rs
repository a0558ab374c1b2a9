//! Shadow page tables: the tables that the CPU walks for guests without nested paging.
//!
//! A [`DomainShadow`] is the cache of a domain's shadows, kept in step with the p2m. A [`VcpuShadow`] has the root
//! that the CPU's CR3 holds. [`fault`] walks the guest's tables at a page fault and returns what the fault means; a
//! page that the guest may use goes into the cache.
//!
//! Without the feature `shadow` the first two have no values (`absent`).

#[cfg(not(feature = "shadow"))]
mod absent;
#[cfg(feature = "shadow")]
pub(crate) mod cache;
#[cfg(feature = "shadow")]
mod domain;
mod fault;
mod seams;
#[cfg(all(test, feature = "shadow"))]
pub(crate) mod tests;
#[cfg(feature = "shadow")]
mod vcpu;

#[cfg(not(feature = "shadow"))]
pub use absent::{DomainShadow, VcpuShadow};
#[cfg(feature = "shadow")]
pub use cache::{Allowance, Cache, ShadowedGuest, View};
#[cfg(feature = "shadow")]
pub use domain::DomainShadow;
pub use fault::{Answer, Fill, control_bits, fault};
pub use seams::{Change, Counts, P2mFlush, ShadowSpace};
#[cfg(feature = "shadow")]
pub use vcpu::VcpuShadow;

/// Whether this hypervisor can run guests without nested paging.
pub const AVAILABLE: bool = cfg!(feature = "shadow");
