//! One function: which of its registers are emulated, and what they do.

use alloc::vec::Vec;

use super::bars::Bars;
use super::caps::{self, Capability};
use super::claims::{Claims, Part, Register, low_bytes};
use super::host::{Host, PciHost, Sbdf};
use super::map::View;
use super::msi::Msi;
use super::msix::Msix;
use super::pages::Pages;
use super::regs::*;

#[derive(Debug)]
pub(super) struct Device {
    pub(super) sbdf: Sbdf,
    claims: Claims,
    bars: Bars,
    msi: Option<Msi>,
    msix: Option<Msix>,
    /// The domain has memory decoding on.
    decoding: bool,
    trapped: Vec<Pages>,
}

impl Device {
    /// Takes a function into care: sizes its BARs, finds its capabilities, and maps what it
    /// decodes.
    pub(super) fn adopt(sbdf: Sbdf, view: &mut View<'_>, host: &mut impl Host) -> Self {
        let mut device = Self {
            sbdf,
            claims: Claims::default(),
            bars: Bars::probe(sbdf, host),
            msi: None,
            msix: None,
            decoding: host.config_read(sbdf, COMMAND, 2) as u16 & COMMAND_MEMORY != 0,
            trapped: Vec::new(),
        };
        device.claim_header();
        device.claim_legacy(host);
        device.claim_extended(host);
        device.remap(view, host);
        device
    }

    /// The function goes: its vectors and mappings too.
    pub(super) fn release(&mut self, view: &mut View<'_>, host: &mut impl Host) {
        if let Some(msi) = &mut self.msi {
            msi.disable(self.sbdf, host);
        }
        if let Some(msix) = &mut self.msix {
            msix.disable(self.sbdf, host);
        }
        self.decoding = false;
        self.remap(view, host);
    }

    /// `size` is 1, 2 or 4, and `reg` a multiple of it below 4096.
    pub(super) fn read(&self, reg: u16, size: u8, host: &mut impl PciHost) -> u32 {
        let end = reg + u16::from(size);
        let (mut value, mut at) = (0, reg);
        while at < end {
            let (part, len) = self.claims.split(at, end);
            let piece = match part {
                Part::Hardware => host.config_read(self.sbdf, at, len),
                Part::Register { register, skip, .. } => {
                    self.read_register(register, host) >> (8 * skip)
                }
            };
            value |= (piece & low_bytes(len)) << (8 * (at - reg));
            at += u16::from(len);
        }
        value
    }

    pub(super) fn write(
        &mut self,
        reg: u16,
        size: u8,
        value: u32,
        view: &mut View<'_>,
        host: &mut impl Host,
    ) {
        let end = reg + u16::from(size);
        let mut at = reg;
        while at < end {
            let (part, len) = self.claims.split(at, end);
            let piece = value >> (8 * (at - reg)) & low_bytes(len);
            match part {
                Part::Hardware => host.config_write(self.sbdf, at, len, piece),
                Part::Register {
                    register,
                    skip,
                    width,
                } => {
                    let mask = low_bytes(len) << (8 * skip);
                    let kept = match mask & low_bytes(width) == low_bytes(width) {
                        true => 0,
                        false => self.read_register(register, host) & !mask,
                    };
                    self.write_register(register, kept | piece << (8 * skip), view, host);
                }
            }
            at += u16::from(len);
        }
    }

    /// Whether `addr` is in a page that is kept out of the domain's map.
    pub(super) fn traps(&self, addr: u64) -> bool {
        self.trapped.iter().any(|pages| pages.contains(addr))
    }

    /// Whether an access touches the MSI-X table of the device.
    pub(super) fn table_overlaps(&self, addr: u64, size: u8) -> bool {
        match (&self.msix, self.table()) {
            (Some(msix), Some(table)) => msix.overlaps(addr, size, table),
            _ => false,
        }
    }

    pub(super) fn mmio_read(&self, addr: u64, size: u8, host: &mut impl PciHost) -> u64 {
        match (&self.msix, self.table()) {
            (Some(msix), Some(table)) => msix.mmio_read(addr, size, table, host),
            _ => u64::MAX,
        }
    }

    pub(super) fn mmio_write(&mut self, addr: u64, size: u8, value: u64, host: &mut impl Host) {
        let table = self.table();
        if let (Some(msix), Some(table)) = (&mut self.msix, table) {
            msix.mmio_write(self.sbdf, (addr, size, value), table, host);
        }
    }

    /// Where the MSI-X table answers now.
    fn table(&self) -> Option<u64> {
        let msix = self.msix.as_ref().filter(|_| self.decoding)?;
        msix.table_at(&self.bars)
    }

    fn read_register(&self, register: Register, host: &mut impl PciHost) -> u32 {
        let msi = self.msi.as_ref();
        match register {
            // As it is in the hardware: after a reset that we did not see, the domain must find
            // what it has to restore.
            Register::Command => host.config_read(self.sbdf, COMMAND, 2),
            Register::BarLow(n) | Register::BarHigh(n) => {
                let high = matches!(register, Register::BarHigh(_));
                let Some(bar) = self.bars.memory.get(usize::from(n)) else {
                    return 0;
                };
                host.config_read(self.sbdf, bar.reg() + if high { 4 } else { 0 }, 4)
            }
            Register::Rom => match &self.bars.rom {
                Some(rom) => host.config_read(self.sbdf, rom.reg, 4),
                None => 0,
            },
            Register::MsiControl => msi.map_or(0, Msi::control),
            Register::MsiAddressLow => msi.map_or(0, |msi| msi.address() as u32),
            Register::MsiAddressHigh => msi.map_or(0, |msi| (msi.address() >> 32) as u32),
            Register::MsiData => msi.map_or(0, |msi| u32::from(msi.data())),
            Register::MsiMask => msi.map_or(0, Msi::mask),
            Register::MsixControl => self.msix.as_ref().map_or(0, Msix::control),
            Register::Fixed(value) => value,
        }
    }

    fn write_register(
        &mut self,
        register: Register,
        value: u32,
        view: &mut View<'_>,
        host: &mut impl Host,
    ) {
        let sbdf = self.sbdf;
        let table = self.table();
        match (register, &mut self.msi, &mut self.msix) {
            (Register::Command, ..) => self.write_command(value as u16, view, host),
            (Register::BarLow(n), ..) => self.write_bar(n, false, value, view, host),
            (Register::BarHigh(n), ..) => self.write_bar(n, true, value, view, host),
            (Register::Rom, ..) => self.write_rom(value, view, host),
            (Register::MsiControl, Some(msi), _) => msi.write_control(sbdf, value as u16, host),
            (Register::MsiAddressLow, Some(msi), _) => {
                let high = msi.address() >> 32 << 32;
                msi.write_address(high | u64::from(value), host);
            }
            (Register::MsiAddressHigh, Some(msi), _) => {
                let low = msi.address() & 0xffff_ffff;
                msi.write_address(low | u64::from(value) << 32, host);
            }
            (Register::MsiData, Some(msi), _) => msi.write_data(value as u16, host),
            (Register::MsiMask, Some(msi), _) => msi.write_mask(sbdf, value, host),
            (Register::MsixControl, _, Some(msix)) => {
                msix.write_control(sbdf, value as u16, table, host);
            }
            _ => {}
        }
    }

    fn write_command(&mut self, value: u16, view: &mut View<'_>, host: &mut impl Host) {
        let decoding = value & COMMAND_MEMORY != 0;
        let changed = decoding != self.decoding;
        if changed {
            self.decoding = decoding;
            if decoding {
                self.bars.refresh(self.sbdf, host);
            }
            self.remap(view, host);
        }
        host.config_write(self.sbdf, COMMAND, 2, u32::from(value));
        if changed && decoding {
            self.program_msix(host);
        }
    }

    /// A BAR may move while it decodes, as on hardware: its pages follow.
    fn write_bar(
        &mut self,
        n: u8,
        high: bool,
        value: u32,
        view: &mut View<'_>,
        host: &mut impl Host,
    ) {
        let Some(bar) = self.bars.memory.get_mut(usize::from(n)) else {
            return;
        };
        let addr = bar.with_half(high, value);
        let moved = addr != bar.addr();
        let (reg, raw) = (
            bar.reg() + if high { 4 } else { 0 },
            bar.raw_half(high, addr),
        );
        if moved && self.decoding {
            bar.move_to(0);
            self.remap(view, host);
        }
        // Written in any case: the hardware may have lost it in a reset.
        host.config_write(self.sbdf, reg, 4, raw);
        if let Some(bar) = self.bars.memory.get_mut(usize::from(n)) {
            bar.move_to(addr);
        }
        if moved && self.decoding {
            self.remap(view, host);
            self.program_msix(host);
        }
    }

    fn write_rom(&mut self, value: u32, view: &mut View<'_>, host: &mut impl Host) {
        let Some(rom) = &mut self.bars.rom else {
            return;
        };
        let reg = rom.reg;
        rom.disable();
        self.remap(view, host);
        host.config_write(self.sbdf, reg, 4, value);
        if let Some(rom) = &mut self.bars.rom {
            rom.set(value);
        }
        self.remap(view, host);
    }

    fn program_msix(&mut self, host: &mut impl Host) {
        let table = self.table();
        if let Some(msix) = &mut self.msix {
            msix.program_all(self.sbdf, table, host);
        }
    }

    /// The pages that it answers for: none, unless decoding is on.
    pub(super) fn decoded(&self) -> Vec<Pages> {
        match self.decoding {
            true => self.bars.decoded(),
            false => Vec::new(),
        }
    }

    /// Those that are kept out of the domain's map for MSI-X.
    pub(super) fn trapped(&self) -> &[Pages] {
        &self.trapped
    }

    /// Makes the domain's map agree with what the function decodes now.
    fn remap(&mut self, view: &mut View<'_>, host: &mut impl Host) {
        self.trapped.clear();
        if let Some(msix) = self.msix.as_ref().filter(|_| self.decoding) {
            self.trapped.extend(msix.pages(&self.bars));
        }
        view.update(self, host);
    }

    fn claim_header(&mut self) {
        self.claims.add(COMMAND, 2, Register::Command);
        for (n, bar) in (0u8..).zip(&self.bars.memory) {
            self.claims.add(bar.reg(), 4, Register::BarLow(n));
            if bar.wide {
                self.claims.add(bar.reg() + 4, 4, Register::BarHigh(n));
            }
        }
        if let Some(rom) = &self.bars.rom {
            self.claims.add(rom.reg, 4, Register::Rom);
        }
    }

    /// MSI and MSI-X are emulated; what cannot be is taken out of the list.
    fn claim_legacy(&mut self, host: &mut impl Host) {
        let head = match host.config_read(self.sbdf, HEADER_TYPE, 1) & 0x7f {
            0 | 1 => CAP_HEAD,
            2 => CAP_HEAD_CARDBUS,
            _ => return,
        };
        let list = caps::legacy(self.sbdf, head, host);
        let mut visible: Vec<Capability> = Vec::new();
        for cap in &list {
            let keep = match cap.id {
                CAP_MSI if self.msi.is_none() => {
                    self.msi = Msi::probe(self.sbdf, cap.at, &mut self.claims, host);
                    self.msi.is_some()
                }
                CAP_MSIX if self.msix.is_none() => {
                    let Self { bars, claims, .. } = self;
                    self.msix = Msix::probe(self.sbdf, cap.at, bars, claims, host);
                    self.msix.is_some()
                }
                CAP_MSI | CAP_MSIX | CAP_EA => false,
                _ => true,
            };
            if keep {
                visible.push(*cap);
            } else {
                log::warn!("{:?}: capability {:#x} hidden", self.sbdf, cap.id);
                if matches!(cap.id, CAP_MSI | CAP_MSIX) {
                    // Neither we nor the domain will hear of what it raises.
                    host.config_write(self.sbdf, cap.at + 2, 2, 0);
                }
                self.hide(cap.at + 2, legacy_body(cap.id), next_start(&list, cap.at));
            }
        }
        if visible.len() == list.len() {
            return;
        }
        let mut pointer = head;
        for cap in &visible {
            self.claims
                .add(pointer, 1, Register::Fixed(u32::from(cap.at)));
            pointer = cap.at + 1;
        }
        self.claims.add(pointer, 1, Register::Fixed(0));
    }

    /// A hidden extended capability keeps its link and loses its id.
    fn claim_extended(&mut self, host: &mut impl Host) {
        let list = caps::extended(self.sbdf, host);
        for cap in &list {
            if !matches!(cap.id, EXT_SRIOV | EXT_MRIOV | EXT_REBAR | EXT_VF_REBAR) {
                continue;
            }
            let link = host.config_read(self.sbdf, cap.at, 4) & 0xfff0_0000;
            self.claims.add(cap.at, 4, Register::Fixed(link));
            self.hide(cap.at + 4, EXTENDED_BODY, next_start(&list, cap.at));
        }
    }

    /// Registers that are claimed already stay so.
    fn hide(&mut self, at: u16, len: u16, end: u16) {
        for reg in at..at.saturating_add(len).min(end) {
            self.claims.add(reg, 1, Register::Fixed(0));
        }
    }
}

/// After the header of the largest of the extended capabilities that are hidden.
const EXTENDED_BODY: u16 = 0x3c;

/// Where the capability at `at` must end at the latest.
fn next_start(list: &[Capability], at: u16) -> u16 {
    let later = list.iter().map(|cap| cap.at).filter(|other| *other > at);
    later.min().unwrap_or(CONFIG_SIZE)
}

/// How many bytes after the header belong to a hidden capability.
fn legacy_body(id: u16) -> u16 {
    match id {
        CAP_MSIX => 10,
        CAP_MSI => 22,
        _ => 2,
    }
}
