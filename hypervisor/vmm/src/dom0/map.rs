//! dom0's memory map as this machine has it, and what dom0 may map of the machine beyond its RAM.

use alloc::vec::Vec;

use guest_pv_abi::{E820_ACPI, E820_NVS, E820_RAM, E820_RESERVED, E820_UNUSABLE};
use oxen_arch::boot::{BootInfo, MemoryKind, MemoryRange};
use oxen_arch::layout;
use oxen_mm::FrameTable;
pub use oxen_mm::dom0::MapRange;
use oxen_mm::dom0::{self, MOST_ENTRIES};
use oxen_types::{Mfn, PAGE_SIZE};
use spin::Mutex;

use crate::globals;

const PAGE: u64 = PAGE_SIZE as u64;
/// Ranges that the builder cuts out of dom0's map later.
const SPARE: usize = 2;

static CURRENT: Mutex<Option<Vec<MapRange>>> = Mutex::new(None);

pub fn build(frames: &FrameTable, info: &BootInfo) {
    let firmware = info.memory.iter().map(entry);
    let map = dom0::build_map(frames, firmware, MOST_ENTRIES - SPARE);
    *CURRENT.lock() = Some(map);
}

fn entry(range: &MemoryRange) -> MapRange {
    let (start, end) = (range.start.raw(), range.end.raw());
    MapRange {
        start,
        len: end - start,
        kind: match range.kind {
            MemoryKind::Ram => E820_RAM,
            MemoryKind::Reserved => E820_RESERVED,
            MemoryKind::AcpiReclaim => E820_ACPI,
            MemoryKind::AcpiNvs => E820_NVS,
            MemoryKind::Unusable => E820_UNUSABLE,
        },
    }
}

pub fn memory_map() -> Vec<MapRange> {
    CURRENT.lock().clone().unwrap_or_default()
}

/// Changes the kind of a part of one range.
pub fn set_kind(start: u64, len: u64, kind: u32) {
    if let Some(map) = &mut *CURRENT.lock() {
        dom0::set_kind(map, start, len, kind);
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
