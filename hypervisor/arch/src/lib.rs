//! x
#![cfg_attr(target_os = "none", no_std)]
pub mod boot;
pub mod cmdline;
pub mod layout;
