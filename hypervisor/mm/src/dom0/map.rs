//! dom0's memory map: the machine's, with the RAM that is not dom0's marked unusable, so that it is
//! neither used nor taken for a hole in which device memory may be placed.

use alloc::vec::Vec;

use guest_pv_abi::{E820_RAM as RAM, E820_UNUSABLE as UNUSABLE};
use oxen_types::{Mfn, PAGE_SIZE};

use crate::frames::{FrameTable, FrameUse};

const PAGE: u64 = PAGE_SIZE as u64;

const LOW_MIB: u64 = 1 << 20;

/// Linux copies a PVH memory map into a table of this size (E820_MAX_ENTRIES_ZEROPAGE) without a
/// check.
pub const MOST_ENTRIES: usize = 128;

/// A range of machine memory, as dom0's memory map has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapRange {
    /// The first byte.
    pub start: u64,
    /// Bytes.
    pub len: u64,
    /// E820_*
    pub kind: u32,
}

impl MapRange {
    fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

/// One range of the firmware's map: its bytes, and its kind as E820 has it.
pub type FirmwareEntry = MapRange;

/// The map for dom0: ranges of RAM are cut where frames that are set aside for dom0 begin and end.
/// There are at most `most` entries: if the machine has more, RAM between the least of them stays
/// unused.
pub fn build_map(
    frames: &FrameTable,
    firmware: impl Iterator<Item = FirmwareEntry>,
    most: usize,
) -> Vec<MapRange> {
    let mut map = Vec::new();
    for entry in firmware {
        if entry.kind == RAM {
            cut_ram(frames, &entry, &mut map);
        } else {
            push(&mut map, entry);
        }
    }
    let before = ram_of(&map);
    while map.len() > most.max(1) {
        join_two(&mut map);
    }
    let lost = before - ram_of(&map);
    if lost > 0 {
        log::warn!(
            "dom0's memory map has room for {most} ranges: {} KiB stay unused",
            lost >> 10
        );
    }
    map
}

fn ram_of(map: &[MapRange]) -> u64 {
    let ram = map.iter().filter(|range| range.kind == RAM);
    ram.map(|range| range.len).sum()
}

/// Appends a range, or lengthens the last one if that goes on in the same kind.
fn push(map: &mut Vec<MapRange>, range: MapRange) {
    match map.last_mut() {
        Some(last) if last.kind == range.kind && last.end() == range.start => {
            last.len += range.len;
        }
        _ => map.push(range),
    }
}

fn cut_ram(frames: &FrameTable, range: &MapRange, map: &mut Vec<MapRange>) {
    let (mut at, last) = (range.start.div_ceil(PAGE), range.end() / PAGE);
    while at < last {
        let (used, run) = frames.run(Mfn::new(at));
        let next = (at + run).min(last);
        let kind = match used {
            FrameUse::SetAside => RAM,
            _ => UNUSABLE,
        };
        let (start, len) = (at * PAGE, (next - at) * PAGE);
        push(map, MapRange { start, len, kind });
        at = next;
    }
}

/// Makes one entry of the two neighbours that lose the least: RAM that becomes unusable, and the
/// hole between them.
fn join_two(map: &mut Vec<MapRange>) {
    let cost = |pair: &[MapRange]| {
        let [a, b] = pair else { return u64::MAX };
        // dom0 starts its CPUs from RAM of the first MiB.
        if a.start < LOW_MIB {
            return u64::MAX;
        }
        let lost = pair.iter().filter(|r| r.kind == RAM).map(|r| r.len).sum();
        b.start.saturating_sub(a.end()).saturating_add(lost)
    };
    let Some(at) = (0..map.len() - 1).min_by_key(|at| cost(&map[*at..at + 2])) else {
        return;
    };
    let second = map.remove(at + 1);
    let first = &mut map[at];
    first.len = second.end().max(first.end()) - first.start;
    if first.kind != second.kind || first.kind == RAM {
        first.kind = UNUSABLE;
    }
}

/// Changes the kind of a part of one range.
pub fn set_kind(map: &mut Vec<MapRange>, start: u64, len: u64, kind: u32) {
    let Some(at) = map
        .iter()
        .position(|r| r.start <= start && start + len <= r.end())
    else {
        return;
    };
    let old = map.remove(at);
    let parts = [
        MapRange {
            len: start - old.start,
            ..old
        },
        MapRange { start, len, kind },
        MapRange {
            start: start + len,
            len: old.end() - start - len,
            ..old
        },
    ];
    for part in parts.into_iter().rev().filter(|part| part.len > 0) {
        map.insert(at, part);
    }
}
