//! All tests in virtual machines, as one program: it links once, and runs as many machines side by
//! side as the host has processors for. Those that measure take the host for themselves: see
//! `system_tests::turn`.

mod attacks;
mod backends;
mod bad_input;
mod boot_matrix;
mod cards;
mod commands;
mod console_keys;
mod daemons;
mod debian;
mod devices;
mod disks;
mod fairness;
mod guests;
mod hotplug;
mod io;
mod leaks;
mod log_dirty;
mod nets;
mod power;
mod shadow;
mod shown;
mod store;
mod time;
