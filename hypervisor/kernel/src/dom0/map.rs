//! dom0's memory map: the machine's, with the RAM that is not dom0's marked unusable, so that it is
//! neither used nor taken for a hole in which device memory may be placed.

use alloc::vec::Vec;

use guest_pv_abi::{E820_ACPI, E820_NVS, E820_RAM, E820_RESERVED, E820_UNUSABLE};
use oxen_arch::boot::{BootInfo, MemoryKind};
use oxen_arch::layout;
use oxen_mm::{FrameTable, FrameUse};
use oxen_types::{Mfn, PAGE_SIZE};
use spin::Mutex;

use crate::globals;

const PAGE: u64 = PAGE_SIZE as u64;

#[derive(Clone, Copy, Debug)]
pub struct MapRange {
    pub start: u64,
    pub len: u64,
    /// E820_*
    pub kind: u32,
}

static CURRENT: Mutex<Option<Vec<MapRange>>> = Mutex::new(None);

pub fn build(frames: &FrameTable, info: &BootInfo) {
    let mut map: Vec<MapRange> = Vec::new();
    for range in &info.memory {
        let (start, end) = (range.start.raw(), range.end.raw());
        let kind = match range.kind {
            MemoryKind::Ram => {
                ram(frames, start, end, &mut map);
                continue;
            }
            MemoryKind::Reserved => E820_RESERVED,
            MemoryKind::AcpiReclaim => E820_ACPI,
            MemoryKind::AcpiNvs => E820_NVS,
            MemoryKind::Unusable => E820_UNUSABLE,
        };
        map.push(MapRange {
            start,
            len: end - start,
            kind,
        });
    }
    *CURRENT.lock() = Some(map);
}

/// A range of RAM, cut where dom0's frames begin and end.
fn ram(frames: &FrameTable, start: u64, end: u64, map: &mut Vec<MapRange>) {
    let (mut at, last) = (start.div_ceil(PAGE), end / PAGE);
    while at < last {
        let (used, run) = frames.run(Mfn::new(at));
        let next = (at + run).min(last);
        let kind = if used == FrameUse::SetAside {
            E820_RAM
        } else {
            E820_UNUSABLE
        };
        match map.last_mut() {
            Some(before) if before.kind == kind && before.start + before.len == at * PAGE => {
                before.len += (next - at) * PAGE;
            }
            _ => map.push(MapRange {
                start: at * PAGE,
                len: (next - at) * PAGE,
                kind,
            }),
        }
        at = next;
    }
}

pub fn memory_map() -> Vec<MapRange> {
    CURRENT.lock().clone().unwrap_or_default()
}

/// Changes the kind of a part of one range.
pub fn set_kind(start: u64, len: u64, kind: u32) {
    let mut current = CURRENT.lock();
    let Some(map) = &mut *current else { return };
    let Some(at) = map
        .iter()
        .position(|r| r.start <= start && start + len <= r.start + r.len)
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
            len: old.start + old.len - start - len,
            ..old
        },
    ];
    for part in parts.into_iter().rev().filter(|part| part.len > 0) {
        map.insert(at, part);
    }
}

/// The end of dom0's highest RAM below a limit, in a range large enough to build in.
pub fn top_below(limit: u64) -> Option<u64> {
    const WORTH: u64 = 64 << 20;
    memory_map()
        .iter()
        .filter(|r| r.kind == E820_RAM && r.start < limit && r.len >= WORTH)
        .map(|r| (r.start + r.len).min(limit))
        .max()
}

/// May dom0 map these frames as device memory? Not RAM, and none of the machine's parts that are ours.
pub fn may_map(first: Mfn, count: u64) -> bool {
    let globals = globals::get();
    let Some(end) = first.checked_add(count) else {
        return false;
    };
    if end.raw() > 1 << (globals.phys_bits - 12) {
        return false;
    }
    let platform = oxen_arch::acpi::platform();
    let ours = |page: u64| (first.raw()..end.raw()).contains(&(page / PAGE));
    // The local APICs, the window of message-signalled interrupts behind them, and the IO-APICs.
    let msi_window = first.raw() < 0xfef00 && end.raw() > 0xfee00;
    let io_apics = platform
        .io_apics
        .iter()
        .any(|io_apic| ours(io_apic.address.raw()));
    let hpet = oxen_arch::time::source() == oxen_arch::time::ClockSource::Hpet
        && platform.hpet.is_some_and(|hpet| ours(hpet.raw()));
    let (image_start, image_end) = layout::image().machine_range();
    let image = first.base().raw() < image_end.raw() && end.base().raw() > image_start.raw();
    let ram = globals.frames.has_ram(first, count);
    !(msi_window || io_apics || hpet || image || ram)
}
