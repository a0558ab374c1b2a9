//! The devices of guests: what is shared by all kinds, and a module for each kind.
//!
//! A device is two directories in the store, one that the guest's driver reads (the front end) and
//! one that dom0's kernel driver reads (the back end). Each side writes its `state` there
//! ([`State`]) and watches the other's (xen/io/xenbus.h). The toolset writes both directories in
//! one transaction, gives the back end what it waits for, and takes all away again. It never serves
//! a request itself.
//!
//! ```text
//!  attach:  claim -> nodes written -> back end in InitWait -> plug -> plugged [-> Connected]
//!  detach:  back end closes -> both have closed -> nodes removed -> driver gone -> release
//!  forced, and when the guest is dead:             nodes removed -> driver gone -> release
//! ```
//!
//! **A kind** ([`Kind`]) has a module with two things:
//!
//! - a type that implements [`Device`]: one device to be attached, made from its part of the
//!   configuration. `claim` takes what dom0 needs for it and returns the nodes, `plug` gives it to
//!   the back end driver once that is there. What a claim holds goes away with the value, so a
//!   failure at any point leaves nothing, a kill of the process included;
//! - free functions for a device known only by its nodes ([`Held`]), perhaps attached by a process
//!   that was killed since: `release`, called when the driver has let go, and `busy`, the reason
//!   not to take it away.
//!
//! To add one: a variant in [`Kind`] and in [`Spec`], and its arms in `kind.rs`, `spec.rs` and
//! `backend.rs`; the compiler names the places. Only what stands in the back end's directory may be
//! believed: the front end's is the guest's.
//!
//! xmd calls [`bus`] and notes in its journal beforehand what it is about to do.
#![forbid(unsafe_code)]
#![warn(unreachable_pub, unused_qualifications)]
#![warn(clippy::wildcard_imports, clippy::allow_attributes)]

mod backend;
pub mod bus;
mod device;
mod guest;
pub mod held;
mod kind;
mod nodes;
mod problem;
mod spec;
mod state;
pub mod vbd;
pub mod vif;

pub use device::Device;
pub use guest::Guest;
pub use held::Held;
pub use kind::Kind;
pub use nodes::Nodes;
pub use spec::Spec;
pub use state::State;
