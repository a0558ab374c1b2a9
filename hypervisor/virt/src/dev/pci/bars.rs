//! The memory BARs and the ROM BAR of a function: their sizes, found once, and where they are now.
//! I/O BARs are the hardware's business.

use alloc::vec::Vec;

use super::host::{PciHost, Sbdf};
use super::pages::Pages;
use super::regs::*;

#[derive(Clone, Debug)]
pub(super) struct Bar {
    /// Its number as MSI-X names it: 0 to 5.
    pub(super) index: u8,
    pub(super) wide: bool,
    flags: u32,
    size: u64,
    addr: u64,
}

#[derive(Clone, Debug)]
pub(super) struct RomBar {
    pub(super) reg: u16,
    size: u64,
    addr: u64,
    enabled: bool,
}

#[derive(Clone, Default, Debug)]
pub(super) struct Bars {
    pub(super) memory: Vec<Bar>,
    pub(super) rom: Option<RomBar>,
}

impl Bars {
    /// Sizes them. Memory decoding is off meanwhile, so that nothing answers at the probe values.
    pub(super) fn probe(sbdf: Sbdf, host: &mut impl PciHost) -> Self {
        let (count, rom) = match host.config_read(sbdf, HEADER_TYPE, 1) & 0x7f {
            0 => (6, Some(ROM)),
            1 => (2, Some(ROM_BRIDGE)),
            _ => return Self::default(),
        };
        let command = host.config_read(sbdf, COMMAND, 2);
        let memory = u32::from(COMMAND_MEMORY);
        if command & memory != 0 {
            host.config_write(sbdf, COMMAND, 2, command & !memory);
        }
        let bars = Self {
            memory: probe_memory(sbdf, count, host),
            rom: rom.and_then(|reg| probe_rom(sbdf, reg, host)),
        };
        if command & memory != 0 {
            host.config_write(sbdf, COMMAND, 2, command);
        }
        bars
    }

    /// Where the hardware has them now: a reset that we did not see may have cleared them.
    pub(super) fn refresh(&mut self, sbdf: Sbdf, host: &mut impl PciHost) {
        for bar in &mut self.memory {
            let low = host.config_read(sbdf, bar.reg(), 4);
            bar.addr = bar.with_half(false, low);
            if bar.wide {
                let high = host.config_read(sbdf, bar.reg() + 4, 4);
                bar.addr = bar.with_half(true, high);
            }
        }
        if let Some(rom) = &mut self.rom {
            rom.set(host.config_read(sbdf, rom.reg, 4));
        }
    }

    pub(super) fn by_index(&self, index: u8) -> Option<&Bar> {
        self.memory.iter().find(|bar| bar.index == index)
    }

    /// The pages of all BARs that take part in memory decoding.
    pub(super) fn decoded(&self) -> Vec<Pages> {
        let rom = self.rom.iter().filter(|rom| rom.enabled);
        self.memory
            .iter()
            .map(|bar| (bar.addr, bar.size))
            .chain(rom.map(|rom| (rom.addr, rom.size)))
            .filter(|(addr, size)| is_place(*addr, *size))
            .filter_map(|(addr, size)| Pages::covering(addr, size))
            .collect()
    }
}

impl Bar {
    pub(super) fn reg(&self) -> u16 {
        BAR_0 + 4 * u16::from(self.index)
    }

    /// Its address, if it is one.
    pub(super) fn place(&self) -> Option<u64> {
        is_place(self.addr, self.size).then_some(self.addr)
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The address after a write of its low or high half.
    pub(super) fn with_half(&self, high: bool, value: u32) -> u64 {
        let addr = if high {
            self.addr & 0xffff_ffff | u64::from(value) << 32
        } else {
            self.addr >> 32 << 32 | u64::from(value & !BAR_FLAGS)
        };
        addr & !(self.size - 1)
    }

    /// The value of a half for the hardware: the address with the read-only flags.
    pub(super) fn raw_half(&self, high: bool, addr: u64) -> u32 {
        if high {
            (addr >> 32) as u32
        } else {
            addr as u32 | self.flags
        }
    }

    pub(super) fn move_to(&mut self, addr: u64) {
        self.addr = addr;
    }

    pub(super) fn addr(&self) -> u64 {
        self.addr
    }
}

impl RomBar {
    pub(super) fn set(&mut self, value: u32) {
        self.addr = u64::from(value & ROM_ADDRESS) & !(self.size - 1);
        self.enabled = value & ROM_ENABLE != 0;
    }

    pub(super) fn disable(&mut self) {
        self.enabled = false;
    }
}

/// Zero means unassigned; all ones is how sizes are asked for.
fn is_place(addr: u64, size: u64) -> bool {
    let last = addr.checked_add(size - 1);
    addr != 0 && last.is_some_and(|last| last != u64::from(u32::MAX) && last != u64::MAX)
}

fn probe_memory(sbdf: Sbdf, count: u8, host: &mut impl PciHost) -> Vec<Bar> {
    let mut bars = Vec::new();
    let mut index = 0;
    while index < count {
        let reg = BAR_0 + 4 * u16::from(index);
        let low = host.config_read(sbdf, reg, 4);
        let wide = low & BAR_TYPE == BAR_TYPE_64 && index + 1 < count;
        let this = index;
        let memory = low & BAR_IO == 0 && low & BAR_TYPE != BAR_TYPE_RESERVED;
        if memory && low & BAR_TYPE == BAR_TYPE_64 && !wide {
            // Its upper half would be another register.
            break;
        }
        index += if memory && wide { 2 } else { 1 };
        if !memory {
            continue;
        }
        let mask = u64::from(probe_half(sbdf, reg, low, host) & !BAR_FLAGS);
        let (mut addr, mut ones) = (u64::from(low & !BAR_FLAGS), mask | 0xffff_ffff_0000_0000);
        if wide {
            let high = host.config_read(sbdf, reg + 4, 4);
            addr |= u64::from(high) << 32;
            ones = mask | u64::from(probe_half(sbdf, reg + 4, high, host)) << 32;
        } else if mask == 0 {
            continue;
        }
        // The lowest bit that can be set is the size.
        let size = ones & ones.wrapping_neg();
        if size == 0 {
            continue;
        }
        bars.push(Bar {
            index: this,
            wide,
            flags: low & BAR_FLAGS,
            size,
            addr: addr & !(size - 1),
        });
    }
    bars
}

fn probe_rom(sbdf: Sbdf, reg: u16, host: &mut impl PciHost) -> Option<RomBar> {
    let value = host.config_read(sbdf, reg, 4);
    host.config_write(sbdf, reg, 4, ROM_ADDRESS);
    let mask = host.config_read(sbdf, reg, 4) & ROM_ADDRESS;
    host.config_write(sbdf, reg, 4, value);
    if mask == 0 {
        return None;
    }
    let mut rom = RomBar {
        reg,
        size: u64::from(mask & mask.wrapping_neg()),
        addr: 0,
        enabled: false,
    };
    rom.set(value);
    Some(rom)
}

fn probe_half(sbdf: Sbdf, reg: u16, value: u32, host: &mut impl PciHost) -> u32 {
    host.config_write(sbdf, reg, 4, u32::MAX);
    let ones = host.config_read(sbdf, reg, 4);
    host.config_write(sbdf, reg, 4, value);
    ones
}
