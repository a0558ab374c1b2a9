//! The hypervisor's binary: wiring and the order of start-up, nothing else.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod smoke;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("oxen is a hypervisor: build it for x86_64-unknown-none, and boot it");
}
