//! A tiny PVH kernel that tests the hypervisor from inside a guest. Its command line chooses what
//! it does: `test=NAME`, with `seed=N`, `seconds=N` and so on. Every test prints `TEST NAME seed=N`
//! first, and `PASS NAME ...` or `FAIL NAME ...` last, and powers off; some are meant to die
//! before.
//!
//! `base` is the kernel (entry, traps, console, clock, more CPUs), `tests` what it is for; `bench`
//! counts what the hypervisor's services cost (`test=bench`), on Oxen and on Xen alike. All memory
//! is mapped one to one, the first 4 GiB of it, and executable: nothing here is protected from
//! itself.
#![cfg_attr(target_os = "none", no_std, no_main)]
// A kernel whose purpose is to misuse the machine: there is no safe layer to keep.
#![allow(unsafe_code)]

/// A line on the console.
#[cfg(target_os = "none")]
macro_rules! println {
    ($($arg:tt)*) => { $crate::base::console::print(format_args!($($arg)*)) };
}

#[cfg(target_os = "none")]
mod base;
#[cfg(target_os = "none")]
mod bench;
#[cfg(target_os = "none")]
mod tests;

/// On a host there is nothing to run: it is for the bare target only.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("build it with --target x86_64-unknown-none, and start it with xm create");
}
