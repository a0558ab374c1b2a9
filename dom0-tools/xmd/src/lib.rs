//! xmd owns the life of domains: it builds them, notices their ends and takes the action that their
//! configuration names. Clients, such as xm, send requests through a Unix socket in JSON; the
//! language is described in the crate `xmd-api`.
//!
//! xmd can be killed at any moment. Its knowledge stands in the hypervisor, in the store and in a
//! small [`journal`]; at its start it reads all three, and finishes or undoes operations that were
//! under way ([`recover`]). No guest notices.
#![forbid(unsafe_code)]
#![warn(unreachable_pub, unused_qualifications)]
#![warn(clippy::wildcard_imports, clippy::allow_attributes)]

mod devices;
pub mod journal;
pub mod log;
pub mod manager;
pub mod ops;
pub mod recover;
pub mod server;
pub mod watcher;

/// The directory of the journal, which vanishes when the machine restarts, as the domains do.
pub const STATE: &str = "/run/xen/xmd";
/// The daemon's log.
pub const LOG: &str = "/var/log/xen/xmd.log";
