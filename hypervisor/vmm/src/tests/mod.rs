//! The vmm against what a guest, a toolstack and the machine may rely on.

mod delivery;
mod devices;
mod entry;
mod halt;
mod memory;
mod policy;
mod runners;
mod save;
mod turn;
