//! From the RSDP to the tables.
#![allow(unsafe_code, reason = "mappings for the `acpi` crate")]

use super::FirmwareMemory;
use super::checks::{Root, from_copy};
use super::info::{AcpiInfo, PmTimer, Table};
use super::{fadt, madt};
use crate::boot::{BootInfo, MemoryKind, MemoryRange};
use ::acpi::mcfg::Mcfg;
use ::acpi::rsdp::Rsdp;
use ::acpi::{AcpiError, AcpiHandler, AcpiTables, HpetInfo, PhysicalMapping};
use core::ptr::NonNull;
use oxen_types::{EcamRegion, Maddr};
use spin::Once;

const HEADER: usize = 36;
const MAX_TABLE: usize = 16 << 20;

static INFO: Once<AcpiInfo> = Once::new();

/// Reads the tables, once.
///
/// # Errors
/// Those of the crate `acpi`: no RSDP, no root table, or no MADT that makes sense.
pub fn init(info: &BootInfo, memory: FirmwareMemory) -> Result<&'static AcpiInfo, AcpiError> {
    INFO.try_call_once(|| read(info, Memory(memory)))
}

/// The result of [`init`].
///
/// # Panics
/// Before `init`: a bug in the order of start-up.
pub fn info() -> &'static AcpiInfo {
    match INFO.get() {
        Some(info) => info,
        None => panic!("ACPI is not read yet"),
    }
}

/// The result of [`init`], if it was called.
#[cfg(target_os = "none")]
pub(crate) fn try_info() -> Option<&'static AcpiInfo> {
    INFO.get()
}

/// Firmware's memory, in pieces of a sane length.
#[derive(Clone, Copy)]
pub(super) struct Memory(FirmwareMemory);

impl Memory {
    #[cfg(test)]
    pub(super) fn new(memory: FirmwareMemory) -> Self {
        Self(memory)
    }

    pub(super) fn bytes(&self, address: u64, length: usize) -> Option<&'static [u8]> {
        address.checked_add(length as u64)?;
        if length > MAX_TABLE {
            return None;
        }
        self.0(address, length)
    }
}

/// Read by the crate `acpi` where nothing can be reached: no signature, so not the table that it
/// looks for.
static NOTHING: [u8; 4096] = [0; 4096];

impl AcpiHandler for Memory {
    unsafe fn map_physical_region<T>(
        &self,
        physical_address: usize,
        size: usize,
    ) -> PhysicalMapping<Self, T> {
        let bytes = self.bytes(physical_address as u64, size);
        let Some(bytes) = bytes.or_else(|| NOTHING.get(..size)) else {
            panic!("ACPI table at {physical_address:#x} (+{size:#x}) cannot be reached")
        };
        let start = NonNull::from(bytes).cast();
        // SAFETY: `size` bytes that are mapped for good.
        unsafe { PhysicalMapping::new(physical_address, start, size, size, *self) }
    }

    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {}
}

pub(super) fn read(info: &BootInfo, memory: Memory) -> Result<AcpiInfo, AcpiError> {
    let root = find_root(info, memory)?;
    let mut out = AcpiInfo {
        rsdp: root.rsdp,
        acpi_revision: root.revision,
        ..AcpiInfo::default()
    };
    // SAFETY: the address comes from a checked RSDP.
    let tables = unsafe { AcpiTables::from_rsdt(memory, root.revision, root.table as usize) }?;
    list_tables(&root, memory, &mut out);
    madt::read(&tables, memory, &mut out)?;
    fadt::read(&tables, memory, &mut out);
    out.hpet = HpetInfo::new(&tables)
        .ok()
        .map(|hpet| Maddr::new(hpet.base_address as u64));
    if let Ok(mcfg) = tables.find_table::<Mcfg>() {
        for entry in mcfg.entries() {
            let region = EcamRegion {
                segment: entry.pci_segment_group,
                first_bus: entry.bus_number_start,
                last_bus: entry.bus_number_end,
                base: Maddr::new(entry.base_address),
            };
            if region.first_bus <= region.last_bus {
                out.mcfg.push(region);
            }
        }
    }
    out.pm_timer = out.pm_timer.filter(|PmTimer { port, .. }| *port != 0);
    Ok(out)
}

fn find_root(info: &BootInfo, memory: Memory) -> Result<Root, AcpiError> {
    if let Some(copy) = &info.rsdp_copy
        && let Some(root) = from_copy(copy)
    {
        return Ok(root);
    }
    if let Some(root) = in_firmware_memory(info, memory) {
        return Ok(root);
    }
    // SAFETY: reads the BIOS areas below 1 MiB, which are mapped, and harmless elsewhere.
    let rsdp = unsafe { Rsdp::search_for_on_bios(memory) }?;
    let wide = rsdp.revision() != 0;
    Ok(Root {
        rsdp: Some(Maddr::new(rsdp.physical_start() as u64)),
        revision: rsdp.revision(),
        table: if wide {
            rsdp.xsdt_address()
        } else {
            rsdp.rsdt_address().into()
        },
    })
}

/// UEFI keeps the RSDP in ACPI memory, and multiboot 1 has no word for where: look through it.
fn in_firmware_memory(info: &BootInfo, memory: Memory) -> Option<Root> {
    const STEP: usize = 16;
    const RSDP_LEN: usize = 36;
    const PIECE: u64 = 1 << 20;
    let acpi =
        |range: &&MemoryRange| matches!(range.kind, MemoryKind::AcpiReclaim | MemoryKind::AcpiNvs);
    let piece = |at: u64, end: u64| {
        // As much more as an RSDP at the piece's end is long.
        let length = end.saturating_sub(at).min(PIECE + RSDP_LEN as u64) as usize;
        let bytes = memory.bytes(at, length)?;
        (0..(length + 1).checked_sub(RSDP_LEN)?.min(PIECE as usize))
            .step_by(STEP)
            .find_map(|offset| {
                let root = from_copy(bytes.get(offset..offset + RSDP_LEN)?)?;
                Some(Root {
                    rsdp: Some(Maddr::new(at + offset as u64)),
                    ..root
                })
            })
    };
    info.memory.iter().filter(acpi).find_map(|range| {
        let (start, end) = (range.start.raw(), range.end.raw());
        (start..end)
            .step_by(PIECE as usize)
            .find_map(|at| piece(at, end))
    })
}

/// Lists every table that the root names, of use here or not: dom0 gets most of them.
fn list_tables(root: &Root, memory: Memory, out: &mut AcpiInfo) {
    let width = if root.revision == 0 { 4 } else { 8 };
    let Some(header) = memory.bytes(root.table, HEADER) else {
        return;
    };
    let length = length_of(header).max(HEADER);
    let Some(body) = memory
        .bytes(root.table, length)
        .map(|table| &table[HEADER..])
    else {
        return;
    };
    for entry in body.chunks_exact(width) {
        let mut address = [0; 8];
        address[..width].copy_from_slice(entry);
        let address = u64::from_le_bytes(address);
        let Some(header) = memory.bytes(address, HEADER).filter(|_| address != 0) else {
            continue;
        };
        out.tables.push(Table {
            signature: [header[0], header[1], header[2], header[3]],
            address: Maddr::new(address),
            length: length_of(header) as u32,
        });
    }
}

fn length_of(header: &[u8]) -> usize {
    header
        .get(4..8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_le_bytes) as usize
}
