//! The MSI capability (PCI 3.0 section 6.8.1). The domain sees its own address and data; the device
//! gets a host vector's.

use super::claims::{Claims, Register};
use super::host::{Host, HostMsi, Sbdf};
use super::regs::*;
use crate::dev::message::Message;

#[derive(Debug)]
pub(super) struct Msi {
    at: u16,
    wide: bool,
    maskable: bool,
    /// log2 of the vectors that the domain may have, and has asked for.
    max_log2: u8,
    log2: u8,
    address: u64,
    data: u16,
    mask: u32,
    /// While enabled: the host's vectors, and log2 of how many.
    active: Option<(HostMsi, u8)>,
}

impl Msi {
    /// `None`: the structure does not fit where it says it is.
    pub(super) fn probe(
        sbdf: Sbdf,
        at: u16,
        claims: &mut Claims,
        host: &mut impl Host,
    ) -> Option<Self> {
        let control = host.config_read(sbdf, at + 2, 2) as u16;
        let wide = control & MSI_64BIT != 0;
        let maskable = control & MSI_MASKABLE != 0;
        let ours = host.max_multiple().clamp(1, 32).ilog2() as u8;
        let msi = Self {
            at,
            wide,
            maskable,
            max_log2: (control >> 1 & 7).min(5).min(u16::from(ours)) as u8,
            log2: 0,
            address: 0,
            data: 0,
            mask: 0,
            active: None,
        };
        let end = msi.mask_reg() + if maskable { 4 } else { 0 };
        if end > LEGACY_SIZE {
            return None;
        }
        // Whatever the firmware left enabled would raise its own vectors.
        if control & MSI_ENABLE != 0 {
            host.config_write(sbdf, at + 2, 2, u32::from(control & !MSI_ENABLE));
        }
        let fits = claims.add(at + 2, 2, Register::MsiControl)
            && claims.add(at + 4, 4, Register::MsiAddressLow)
            && (!wide || claims.add(at + 8, 4, Register::MsiAddressHigh))
            && claims.add(msi.data_reg(), 2, Register::MsiData)
            && (!maskable || claims.add(msi.mask_reg(), 4, Register::MsiMask));
        fits.then_some(msi)
    }

    pub(super) fn control(&self) -> u32 {
        let flag = |on, bit: u16| if on { u32::from(bit) } else { 0 };
        flag(self.active.is_some(), MSI_ENABLE)
            | u32::from(self.max_log2) << 1
            | u32::from(self.log2) << 4
            | flag(self.wide, MSI_64BIT)
            | flag(self.maskable, MSI_MASKABLE)
    }

    pub(super) fn address(&self) -> u64 {
        self.address
    }

    pub(super) fn data(&self) -> u16 {
        self.data
    }

    pub(super) fn mask(&self) -> u32 {
        self.mask
    }

    pub(super) fn write_control(&mut self, sbdf: Sbdf, value: u16, host: &mut impl Host) {
        let enable = value & MSI_ENABLE != 0;
        self.log2 = (value >> 4 & 7).min(u16::from(self.max_log2)) as u8;
        if self
            .active
            .is_some_and(|(_, log2)| !enable || log2 != self.log2)
        {
            self.disable(sbdf, host);
        }
        if enable && self.active.is_none() {
            self.active = host
                .alloc(sbdf, 1 << self.log2)
                .map(|vectors| (vectors, self.log2));
            if self.active.is_none() {
                log::warn!("{sbdf:?}: no vectors for MSI");
            }
            self.bind(host);
        }
        // Even if nothing changed: the device may have lost it all in a reset.
        self.program(sbdf, host);
    }

    pub(super) fn write_address(&mut self, address: u64, host: &mut impl Host) {
        self.address = address & !3;
        self.bind(host);
    }

    pub(super) fn write_data(&mut self, data: u16, host: &mut impl Host) {
        self.data = data;
        self.bind(host);
    }

    pub(super) fn write_mask(&mut self, sbdf: Sbdf, mask: u32, host: &mut impl Host) {
        self.mask = mask;
        host.config_write(sbdf, self.mask_reg(), 4, mask);
    }

    /// The vectors go back, the device falls silent.
    pub(super) fn disable(&mut self, sbdf: Sbdf, host: &mut impl Host) {
        if let Some((vectors, _)) = self.active.take() {
            self.write_hardware_control(sbdf, 0, host);
            host.free(vectors.handle);
        }
    }

    fn program(&self, sbdf: Sbdf, host: &mut impl Host) {
        let Some((vectors, log2)) = self.active else {
            return;
        };
        self.write_hardware_control(sbdf, 0, host);
        host.config_write(sbdf, self.at + 4, 4, vectors.address as u32);
        if self.wide {
            host.config_write(sbdf, self.at + 8, 4, (vectors.address >> 32) as u32);
        }
        host.config_write(sbdf, self.data_reg(), 2, vectors.data & 0xffff);
        if self.maskable {
            host.config_write(sbdf, self.mask_reg(), 4, self.mask);
        }
        self.write_hardware_control(sbdf, MSI_ENABLE | u16::from(log2) << 4, host);
    }

    /// Binds each host vector to the domain's message: the low bits of the data count the vectors.
    fn bind(&self, host: &mut impl Host) {
        let Some((vectors, log2)) = self.active else {
            return;
        };
        let count = 1u8 << log2;
        let base = u32::from(self.data) & !(u32::from(count) - 1);
        for index in 0..count {
            let target = Message::from_msi(self.address, base | u32::from(index));
            host.bind(vectors.handle, index, target);
        }
    }

    fn write_hardware_control(&self, sbdf: Sbdf, bits: u16, host: &mut impl Host) {
        host.config_write(sbdf, self.at + 2, 2, u32::from(bits));
    }

    fn data_reg(&self) -> u16 {
        self.at + if self.wide { 12 } else { 8 }
    }

    /// The mask follows the data, aligned; without one, the end of the structure.
    fn mask_reg(&self) -> u16 {
        self.data_reg() + if self.maskable { 4 } else { 2 }
    }
}
