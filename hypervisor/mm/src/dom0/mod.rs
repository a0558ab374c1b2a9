//! dom0's share of the machine's memory, and the memory map that dom0 sees.
//!
//! dom0 gets frames by number, from low addresses up, so it may take all of the memory below 4 GiB.
//! The hypervisor therefore keeps what it needs before: [`LOW_FRAMES`] carved off the firmware's
//! map, and
//! [`kept_frames`] of the rest, wherever they are.

mod map;
#[cfg(test)]
mod tests;

use oxen_core::seams::FrameSource;
use oxen_types::{DomainId, Mfn};

use crate::frames::FrameTable;
pub use map::{FirmwareEntry, MOST_ENTRIES, MapRange, build_map, set_kind};

/// Frames below 4 GiB that the hypervisor keeps from dom0. Only the PAE root of a vcpu on shadows
/// must lie there, one frame for each (AMD loads 32 bits of CR3 outside of long mode).
pub const LOW_FRAMES: u64 = 512;

/// 16 MiB: tables of domains, event channels, grants, the console's rings.
const KEPT: u64 = 4096;
/// Stacks, save areas and scheduling of one CPU.
const KEPT_PER_CPU: u64 = 64;
/// One frame of page tables maps 512 frames; as much again for whatever grows with memory.
const FRAMES_PER_KEPT: u64 = 256;

/// Frames of a machine that dom0 cannot have, whatever `dom0_mem` says: without them the hypervisor
/// could start neither its CPUs nor dom0.
pub fn kept_frames(total: u64, cpus: usize) -> u64 {
    KEPT + KEPT_PER_CPU * cpus as u64 + total / FRAMES_PER_KEPT
}

/// Sets dom0's frames aside: up to `wish` of the given RAM (first frame, frame after the last), in
/// that order, so that `kept` frames stay free. Returns how many dom0 has.
pub fn reserve(
    frames: &FrameTable,
    ram: impl Iterator<Item = (u64, u64)>,
    wish: u64,
    kept: u64,
) -> u64 {
    let most = wish.min(frames.stats().free_frames.saturating_sub(kept));
    let mut taken = 0;
    for (mut at, end) in ram {
        // What is in use already (the image) is not taken, so a range may need more than one go.
        while at < end && taken < most {
            let count = (end - at).min(most - taken);
            taken += frames.reserve_identity(Mfn::new(at), count, DomainId::DOM0);
            at += count;
        }
    }
    taken
}
