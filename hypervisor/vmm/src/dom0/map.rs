//! dom0's memory map as this machine has it.

use alloc::vec::Vec;

use guest_pv_abi::E820_RAM;
use oxen_mm::FrameTable;
use oxen_mm::dom0::{self, MOST_ENTRIES, MapRange};

/// Ranges that the builder cuts out of dom0's map later.
pub(crate) const SPARE: usize = 2;

/// The machine's map with the RAM that was set aside for dom0.
pub(crate) fn build(frames: &FrameTable, firmware: &[MapRange]) -> Vec<MapRange> {
    dom0::build_map(frames, firmware.iter().copied(), MOST_ENTRIES - SPARE)
}

/// Those of its ranges that are RAM.
pub(crate) fn ram(map: &[MapRange]) -> impl Iterator<Item = &MapRange> {
    map.iter().filter(|range| range.kind == E820_RAM)
}

/// The end of dom0's highest RAM below a limit, in a range large enough to build in.
pub(crate) fn top_below(map: &[MapRange], limit: u64) -> Option<u64> {
    const WORTH: u64 = 64 << 20;
    ram(map)
        .filter(|range| range.start < limit && range.len >= WORTH)
        .map(|range| (range.start + range.len).min(limit))
        .max()
}
