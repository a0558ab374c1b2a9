//! Guests' networks in dom0: bridges, ports, the NAT network with its DHCP service, and guards
//! against forged addresses.
//!
//! All settings go to the kernel by netlink ([`link`], [`firewall`]); no script is run. [`network`]
//! and [`nat`] define the networks, [`port`] puts a card on one. The addresses of the NAT network
//! are files ([`lease`]): `xmd` writes them when it attaches a card, the daemon `xnetd` reads them
//! when a guest sends a request ([`dhcp`]), so neither needs the other to be alive.
#![forbid(unsafe_code)]
#![warn(unreachable_pub, unused_qualifications)]
#![warn(clippy::wildcard_imports, clippy::allow_attributes)]

pub mod dhcp;
mod expression;
pub mod firewall;
pub mod lease;
pub mod link;
pub mod mac;
pub mod nat;
mod netlink;
pub mod network;
pub mod port;

pub use mac::Mac;
pub use network::Network;
pub use oxen_sys::error::{Error, Result};
