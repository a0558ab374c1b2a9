//! xmd owns the life of domains: it builds them, notices their ends and does what their
//! configuration wants done then. Clients (xm is one) speak to it through a Unix socket in JSON;
//! the language is described in the crate `xmd-api`.
//!
//! It can be killed at any moment. What it knows stands in the hypervisor, in the store and in a
//! small [`journal`]; on its start it reads all three and finishes or undoes what was half done
//! ([`recover`]). No guest notices.
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

/// Where the journal lies: gone when the machine restarts, as the domains are.
pub const STATE: &str = "/run/xen/xmd";
/// The daemon's log.
pub const LOG: &str = "/var/log/xen/xmd.log";
