//! The hypervisor's binary: wiring and the order of start-up.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod boot;
#[cfg(target_os = "none")]
mod console;
#[cfg(target_os = "none")]
mod dom0;
#[cfg(target_os = "none")]
mod domain;
#[cfg(target_os = "none")]
mod exits;
#[cfg(target_os = "none")]
mod flush;
#[cfg(target_os = "none")]
mod globals;
#[cfg(target_os = "none")]
mod hardware;
#[cfg(target_os = "none")]
mod keys;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod percpu;
#[cfg(target_os = "none")]
mod platform;
#[cfg(target_os = "none")]
mod policy;
#[cfg(target_os = "none")]
mod ports;
#[cfg(target_os = "none")]
mod run;
#[cfg(target_os = "none")]
mod save;
#[cfg(target_os = "none")]
mod shadow;
#[cfg(target_os = "none")]
mod space;
#[cfg(target_os = "none")]
mod trace;
#[cfg(target_os = "none")]
mod vcpu;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("oxen is a hypervisor: build it for x86_64-unknown-none, and boot it");
}
