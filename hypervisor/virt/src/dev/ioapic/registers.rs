//! One IO-APIC's registers: the index and data window, and the EOI register of newer versions.

use alloc::vec::Vec;

use super::IoApicHost;
use super::pin::Pin;

/// An IO-APIC of the host, as its MADT entry and version register describe it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoApicConfig {
    /// Address of its register page.
    pub base: u64,
    pub id: u8,
    /// 0x11, or 0x20 and above, which have an EOI register.
    pub version: u8,
    pub gsi_base: u32,
    /// At most [`MAX_PINS`]; more are ignored.
    pub pins: u8,
}

/// As many as the index register can name.
const MAX_PINS: u8 = 120;
const PAGE: u64 = 0x1000;

const SELECT: u32 = 0x00;
const WINDOW: u32 = 0x10;
const EOI: u32 = 0x40;

const INDEX_ID: u8 = 0;
const INDEX_VERSION: u8 = 1;
const INDEX_ARBITRATION: u8 = 2;
const INDEX_ENTRIES: u8 = 0x10;

const ID_MASK: u32 = 0x0f00_0000;

#[derive(Debug)]
pub(super) struct IoApic {
    base: u64,
    version: u8,
    gsi_base: u32,
    id: u32,
    select: u8,
    pins: Vec<Pin>,
}

impl IoApic {
    pub(super) fn new(config: &IoApicConfig) -> Self {
        let gsis = config.gsi_base
            ..config
                .gsi_base
                .saturating_add(u32::from(config.pins.min(MAX_PINS)));
        Self {
            base: config.base & !(PAGE - 1),
            version: config.version,
            gsi_base: config.gsi_base,
            id: u32::from(config.id) << 24 & ID_MASK,
            select: 0,
            pins: gsis.map(Pin::new).collect(),
        }
    }

    pub(super) fn offset(&self, gpa: u64) -> Option<u32> {
        gpa.checked_sub(self.base)
            .filter(|offset| *offset < PAGE)
            .map(|offset| offset as u32)
    }

    pub(super) fn pin_of(&mut self, gsi: u32) -> Option<&mut Pin> {
        let index = gsi.checked_sub(self.gsi_base)?;
        self.pins.get_mut(index as usize)
    }

    /// The registers are 32 bits wide; a narrower read gets their low bits.
    pub(super) fn mmio_read(&self, offset: u32, size: u32) -> u32 {
        let value = match offset {
            SELECT => u32::from(self.select),
            WINDOW => self.read_indexed(),
            _ => 0,
        };
        match size {
            1 => value & 0xff,
            2 => value & 0xffff,
            _ => value,
        }
    }

    pub(super) fn mmio_write(
        &mut self,
        offset: u32,
        size: u32,
        value: u32,
        host: &mut impl IoApicHost,
    ) {
        match offset {
            SELECT => self.select = value as u8,
            // A part of a register cannot be written: it would be half an entry.
            WINDOW if size == 4 => self.write_indexed(value, host),
            EOI if self.version >= 0x20 => self.eoi(value as u8, host),
            _ => {}
        }
    }

    pub(super) fn eoi(&mut self, vector: u8, host: &mut impl IoApicHost) {
        for pin in &mut self.pins {
            pin.eoi(vector, host);
        }
    }

    pub(super) fn reset(&mut self, host: &mut impl IoApicHost) {
        self.select = 0;
        for pin in &mut self.pins {
            pin.reset(host);
        }
    }

    fn read_indexed(&self) -> u32 {
        match self.select {
            INDEX_ID | INDEX_ARBITRATION => self.id,
            INDEX_VERSION => {
                let last = (self.pins.len() as u32).saturating_sub(1);
                last << 16 | u32::from(self.version)
            }
            _ => self
                .entry_index()
                .and_then(|index| self.pins.get(index))
                .map_or(0, |pin| match self.select & 1 {
                    0 => pin.low(),
                    _ => pin.high(),
                }),
        }
    }

    fn write_indexed(&mut self, value: u32, host: &mut impl IoApicHost) {
        if self.select == INDEX_ID {
            self.id = value & ID_MASK;
            return;
        }
        let high = self.select & 1 != 0;
        if let Some(pin) = self
            .entry_index()
            .and_then(|index| self.pins.get_mut(index))
        {
            if high {
                pin.write_high(value);
            } else {
                pin.write_low(value, host);
            }
        }
    }

    fn entry_index(&self) -> Option<usize> {
        let index = self.select.checked_sub(INDEX_ENTRIES)?;
        Some(usize::from(index / 2))
    }

    #[cfg(test)]
    pub(super) fn pins(&self) -> &[Pin] {
        &self.pins
    }
}
