//! The store that domains and tools share (docs/misc/xenstore.txt of Xen 4.17): its wire protocol,
//! a client, and the server's core.
//!
//! The core knows no hardware and does no input or output, so all of its rules are tested on the
//! host. The daemon (`main.rs`) brings it messages and persists what it changes.
#![forbid(unsafe_code)]
#![warn(unreachable_pub, unused_qualifications)]
#![warn(clippy::wildcard_imports, clippy::allow_attributes)]

pub mod access;
pub mod caller;
pub mod client;
pub mod draft;
pub mod edit;
pub mod error;
pub mod journal;
pub mod notices;
pub mod outbox;
pub mod outcome;
pub mod path;
pub mod perms;
pub mod quota;
pub mod record;
pub mod ring;
pub mod server;
pub mod session;
pub mod trace;
pub mod transaction;
pub mod tree;
pub mod turns;
pub mod view;
pub mod watch;
pub mod wire;
