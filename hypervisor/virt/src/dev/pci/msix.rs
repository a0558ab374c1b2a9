//! The MSI-X capability and its table in device memory (PCI 3.0 section 6.8.2).
//!
//! The pages of the table and of the pending bits stay unmapped. Table accesses are emulated; what
//! else lies in those pages, the pending bits included, is forwarded to the device. Writes always
//! go through to the device, even when they change nothing: after a reset of the device, which is
//! not seen here, the domain restores the table with the values that we still hold.
//!
//! Invariant: a device entry is unmasked only with a host vector in it.

use alloc::vec::Vec;

use super::bars::{Bar, Bars};
use super::claims::{Claims, Register};
use super::host::{Host, HostMsi, PciHost, Sbdf};
use super::pages::Pages;
use super::regs::*;
use crate::dev::message::Message;

const ENTRY_SIZE: u64 = 16;
const ENTRY_MASKED: u32 = 1;

/// A structure in a BAR: the BAR's number, the offset in it, the size.
#[derive(Clone, Copy, Debug)]
struct TableLocation {
    bar: u8,
    offset: u64,
    size: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    address: u64,
    data: u32,
    masked: bool,
    vector: Option<HostMsi>,
}

#[derive(Debug)]
pub(super) struct Msix {
    at: u16,
    enabled: bool,
    mask_all: bool,
    table: TableLocation,
    pending: TableLocation,
    entries: Vec<Entry>,
}

impl Msix {
    /// `None`: the structures do not fit where the capability says they are.
    pub(super) fn probe(
        sbdf: Sbdf,
        at: u16,
        bars: &Bars,
        claims: &mut Claims,
        host: &mut impl Host,
    ) -> Option<Self> {
        if at + 12 > LEGACY_SIZE {
            return None;
        }
        let control = host.config_read(sbdf, at + 2, 2) as u16;
        let count = (control & MSIX_SIZE) + 1;
        let place = |raw: u32, size| {
            let place = TableLocation {
                bar: (raw & 7) as u8,
                offset: u64::from(raw & !7),
                size,
            };
            let end = place.offset.checked_add(size)?;
            (end <= bars.by_index(place.bar)?.size()).then_some(place)
        };
        let table = host.config_read(sbdf, at + 4, 4);
        let table = place(table, u64::from(count) * ENTRY_SIZE)?;
        let pending = host.config_read(sbdf, at + 8, 4);
        let pending = place(pending, u64::from(count).div_ceil(64) * 8)?;
        if !claims.add(at + 2, 2, Register::MsixControl) {
            return None;
        }
        if control & MSIX_ENABLE != 0 {
            host.config_write(sbdf, at + 2, 2, u32::from(control & !MSIX_ENABLE));
        }
        let entry = Entry {
            address: 0,
            data: 0,
            masked: true,
            vector: None,
        };
        // Up to 64 KiB: without memory for them the function has no MSI-X.
        let mut entries = Vec::new();
        entries.try_reserve_exact(count.into()).ok()?;
        entries.resize(count.into(), entry);
        Some(Self {
            at,
            enabled: false,
            mask_all: false,
            table,
            pending,
            entries,
        })
    }

    pub(super) fn control(&self) -> u32 {
        let flag = |on, bit: u16| if on { u32::from(bit) } else { 0 };
        flag(self.enabled, MSIX_ENABLE)
            | flag(self.mask_all, MSIX_MASK_ALL)
            | (self.entries.len() as u32).saturating_sub(1) & u32::from(MSIX_SIZE)
    }

    /// The pages that must trap, where the BARs are now.
    pub(super) fn pages(&self, bars: &Bars) -> impl Iterator<Item = Pages> {
        let find = |place: &TableLocation| {
            let start = place.start(bars.by_index(place.bar)?)?;
            Pages::covering(start, place.size)
        };
        find(&self.table).into_iter().chain(find(&self.pending))
    }

    /// `table`: where the table is, if the device decodes it now.
    pub(super) fn write_control(
        &mut self,
        sbdf: Sbdf,
        value: u16,
        table: Option<u64>,
        host: &mut impl Host,
    ) {
        let enable = value & MSIX_ENABLE != 0;
        self.mask_all = value & MSIX_MASK_ALL != 0;
        if enable && !self.enabled {
            self.enabled = true;
            // Some devices let the table be written only while enabled: mask the function for it.
            let quiet = MSIX_ENABLE | MSIX_MASK_ALL;
            host.config_write(sbdf, self.at + 2, 2, u32::from(quiet));
            self.program_all(sbdf, table, host);
        } else if !enable && self.enabled {
            self.disable(sbdf, host);
        }
        host.config_write(sbdf, self.at + 2, 2, self.control());
    }

    /// All vectors go back, the device falls silent.
    pub(super) fn disable(&mut self, sbdf: Sbdf, host: &mut impl Host) {
        self.enabled = false;
        host.config_write(sbdf, self.at + 2, 2, self.control());
        for entry in &mut self.entries {
            if let Some(vector) = entry.vector.take() {
                host.free(vector.handle);
            }
        }
    }

    /// The device just began to decode memory (or moved): its table may be anything.
    pub(super) fn program_all(&mut self, sbdf: Sbdf, table: Option<u64>, host: &mut impl Host) {
        if !self.enabled {
            return;
        }
        for index in 0..self.entries.len() {
            self.program(sbdf, index, table, host);
        }
    }

    pub(super) fn table_at(&self, bars: &Bars) -> Option<u64> {
        self.table.start(bars.by_index(self.table.bar)?)
    }

    pub(super) fn mmio_read(
        &self,
        addr: u64,
        size: u8,
        table: u64,
        host: &mut impl PciHost,
    ) -> u64 {
        match self.locate(addr, size, table) {
            Location::Entry(index, offset) => {
                let Some(entry) = self.entries.get(index) else {
                    return u64::MAX;
                };
                let low = entry.word(offset);
                match size {
                    8 => u64::from(low) | u64::from(entry.word(offset + 4)) << 32,
                    _ => u64::from(low),
                }
            }
            Location::Elsewhere => forward_read(addr, size, host),
            Location::Refused => u64::MAX,
        }
    }

    pub(super) fn mmio_write(
        &mut self,
        sbdf: Sbdf,
        (addr, size, value): (u64, u8, u64),
        table: u64,
        host: &mut impl Host,
    ) {
        match self.locate(addr, size, table) {
            Location::Entry(index, offset) => {
                let Some(entry) = self.entries.get_mut(index) else {
                    return;
                };
                entry.set_word(offset, value as u32);
                if size == 8 {
                    entry.set_word(offset + 4, (value >> 32) as u32);
                }
                if offset + u64::from(size) == ENTRY_SIZE {
                    self.program(sbdf, index, Some(table), host);
                } else if let Some(vector) = entry.vector {
                    host.bind(vector.handle, 0, entry.target());
                }
            }
            Location::Elsewhere => forward_write(addr, size, value, host),
            Location::Refused => log::debug!("{sbdf:?}: odd access to the MSI-X table"),
        }
    }

    /// Brings one device entry in line with the domain's.
    fn program(&mut self, sbdf: Sbdf, index: usize, table: Option<u64>, host: &mut impl Host) {
        let (Some(entry), Some(table)) = (self.entries.get_mut(index), table) else {
            return;
        };
        if !self.enabled {
            // The device's table is of no consequence until then.
            return;
        }
        let at = |offset: u64| {
            let at = table.wrapping_add(index as u64 * ENTRY_SIZE);
            at.wrapping_add(offset)
        };
        host.mmio_write(at(12), 4, u64::from(ENTRY_MASKED));
        // The domain may rely on the mask as soon as its own write is done.
        host.mmio_read(at(12), 4);
        if entry.masked {
            return;
        }
        if entry.vector.is_none() {
            entry.vector = host.alloc(sbdf, 1);
        }
        let Some(vector) = entry.vector else {
            log::warn!("{sbdf:?}: no vector for MSI-X entry {index}");
            return;
        };
        host.bind(vector.handle, 0, entry.target());
        host.mmio_write(at(0), 4, vector.address & 0xffff_ffff);
        host.mmio_write(at(4), 4, vector.address >> 32);
        host.mmio_write(at(8), 4, u64::from(vector.data));
        host.mmio_write(at(12), 4, 0);
    }

    pub(super) fn overlaps(&self, addr: u64, size: u8, table: u64) -> bool {
        let end = addr.saturating_add(u64::from(size));
        end > table && addr < table.saturating_add(self.table.size)
    }

    fn locate(&self, addr: u64, size: u8, table: u64) -> Location {
        if !self.overlaps(addr, size, table) {
            return Location::Elsewhere;
        }
        // Table entries take aligned accesses of 4 and 8 bytes only.
        if !matches!(size, 4 | 8) || !addr.is_multiple_of(u64::from(size)) {
            return Location::Refused;
        }
        let offset = addr.wrapping_sub(table);
        Location::Entry((offset / ENTRY_SIZE) as usize, offset % ENTRY_SIZE)
    }
}

enum Location {
    Entry(usize, u64),
    Elsewhere,
    Refused,
}

impl TableLocation {
    fn start(&self, bar: &Bar) -> Option<u64> {
        bar.place()?.checked_add(self.offset)
    }
}

impl Entry {
    fn word(&self, offset: u64) -> u32 {
        match offset {
            0 => self.address as u32,
            4 => (self.address >> 32) as u32,
            8 => self.data,
            _ => u32::from(self.masked),
        }
    }

    fn set_word(&mut self, offset: u64, value: u32) {
        match offset {
            0 => self.address = self.address >> 32 << 32 | u64::from(value & !3),
            4 => self.address = self.address & 0xffff_ffff | u64::from(value) << 32,
            8 => self.data = value,
            _ => self.masked = value & ENTRY_MASKED != 0,
        }
    }

    fn target(&self) -> Option<Message> {
        Message::from_msi(self.address, self.data)
    }
}

/// Device registers beside the table. Unaligned accesses go byte by byte; what leaves the page is
/// not ours.
fn forward_read(addr: u64, size: u8, host: &mut impl PciHost) -> u64 {
    if is_simple(addr, size) {
        return host.mmio_read(addr, size);
    }
    let mut value = u64::MAX;
    for (n, at) in bytes_in_page(addr, size) {
        value &= !(0xff << (8 * n));
        value |= (host.mmio_read(at, 1) & 0xff) << (8 * n);
    }
    value
}

fn forward_write(addr: u64, size: u8, value: u64, host: &mut impl PciHost) {
    if is_simple(addr, size) {
        return host.mmio_write(addr, size, value);
    }
    for (n, at) in bytes_in_page(addr, size) {
        host.mmio_write(at, 1, value >> (8 * n) & 0xff);
    }
}

fn is_simple(addr: u64, size: u8) -> bool {
    matches!(size, 1 | 2 | 4 | 8) && addr.is_multiple_of(u64::from(size))
}

fn bytes_in_page(addr: u64, size: u8) -> impl Iterator<Item = (u32, u64)> {
    (0..u32::from(size.min(8)))
        .map(move |n| (n, addr.wrapping_add(u64::from(n))))
        .filter(move |(_, at)| at >> 12 == addr >> 12)
}
