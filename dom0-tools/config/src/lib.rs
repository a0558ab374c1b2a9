//! Guest configuration files: from text in the syntax of xl (and what is left of xm's) to a typed,
//! checked [`DomainConfig`].
//!
//! Three layers, each usable alone: [`syntax`] turns text into assignments with their places,
//! [`keys`] knows every key that xl knows and what we do with it, and [`DomainConfig`] gives the
//! values their types. Nothing here touches a file or the hypervisor, and no input can make it
//! panic. Each error is a [`Diagnostic`] with its line and column.
//!
//! Reference: xl.cfg(5) of Xen 4.17.
#![forbid(unsafe_code)]
#![warn(unreachable_pub, unused_qualifications)]
#![warn(clippy::wildcard_imports, clippy::allow_attributes)]

mod build;
mod cpus;
mod diag;
mod domain;
pub mod keys;
mod name;
mod read;
pub mod spec;
mod suggest;
pub mod syntax;
mod uuid;

pub use cpus::{Affinity, CpuSet};
pub use diag::{Diagnostic, Place};
pub use domain::{Action, Actions, Bootloader, DomainConfig, MAX_MIB, MAX_VCPUS, Parsed, TscMode};
pub use name::{MAX_NAME, check_name};
pub use spec::disk::{DiskAccess, DiskFormat, DiskSpec, parse as parse_disk};
pub use spec::vif::{AntiSpoof, Rate, VifNetwork, VifSpec, parse as parse_vif};
pub use spec::vlan::Vlans;
pub use uuid::Uuid;

/// Parses a configuration file's text plus `key=value` words from a command line, which win.
///
/// `source` is the name that error messages show.
///
/// # Errors
/// A [`Diagnostic`] for each error of the file, in the order of the text; never empty.
pub fn parse(source: &str, text: &[u8], overrides: &[String]) -> Result<Parsed, Vec<Diagnostic>> {
    let mut file = syntax::parse_bytes(source, text)?;
    for word in overrides {
        syntax::apply_override(&mut file, word).map_err(|error| vec![error])?;
    }
    build::build(&file)
}
