//! The hypervisor's binary: wiring and the order of start-up.
#![warn(missing_docs, unreachable_pub, unused_qualifications)]
#![warn(clippy::allow_attributes, clippy::wildcard_imports)]
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod boot;
#[cfg(target_os = "none")]
mod console;
#[cfg(target_os = "none")]
mod devices;
#[cfg(target_os = "none")]
mod host;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod modules;
#[cfg(target_os = "none")]
mod platform;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("oxen is a hypervisor: build it for x86_64-unknown-none, and boot it");
}
