//! The xAPIC page, and the registers it shares with x2APIC.

use super::deliver::{IpiRequest, Shorthand};
use super::regs::*;
use super::shared::LapicIdInfo;
use super::timer::Mode;
use super::{Effect, Lapic, Now};
use crate::dev::message::{Delivery, Destination, Message};

impl Lapic {
    /// The offset of `gpa` in the xAPIC page, if that page exists at the moment.
    pub fn mmio_offset(&self, gpa: u64) -> Option<u32> {
        let offset = gpa.checked_sub(XAPIC_BASE).filter(|o| *o < XAPIC_SIZE)?;
        self.xapic_mode().then_some(offset as u32)
    }

    /// Registers are 32 bits wide, 16 bytes apart. As on hardware and in Xen, narrower accesses
    /// within a register work; what crosses its end reads as zero.
    pub fn mmio_read(&mut self, offset: u32, size: u32, now: Now) -> u32 {
        let Some(shift) = byte_shift(offset, size).filter(|_| self.xapic_mode()) else {
            return 0;
        };
        let value = match self.read(offset >> 4, now) {
            Some(value) => value,
            None => {
                self.error(ESR_ILLEGAL_REGISTER);
                0
            }
        };
        value >> shift & width_mask(size)
    }

    pub fn mmio_write(&mut self, offset: u32, size: u32, value: u32, now: Now) -> Effect {
        let Some(shift) = byte_shift(offset, size).filter(|_| self.xapic_mode()) else {
            return Effect::None;
        };
        let reg = offset >> 4;
        let mask = width_mask(size) << shift;
        let value = match mask {
            u32::MAX => value,
            _ => self.read(reg, now).unwrap_or(0) & !mask | value << shift & mask,
        };
        match reg {
            LDR => {
                self.ldr = value & 0xff00_0000;
                self.publish();
                Effect::None
            }
            DFR => {
                self.dfr = value | 0x0fff_ffff;
                self.publish();
                Effect::None
            }
            ICR_HIGH => {
                self.icr_high = value & 0xff00_0000;
                Effect::None
            }
            ICR => self.write_icr(
                value,
                Destination::narrow((self.icr_high >> 24) as u8, value & 1 << 11 != 0),
            ),
            _ => self.write(reg, value, now),
        }
    }

    /// One access to the page, a write of a value or a read. What follows from a write is done at
    /// once: an instruction with REP makes several.
    pub fn mmio(
        &mut self,
        offset: u32,
        size: u8,
        value: Option<u64>,
        now: Now,
        apply: impl FnOnce(Effect),
    ) -> u64 {
        match value {
            None => self.mmio_read(offset, size.into(), now).into(),
            Some(value) => {
                let effect = self.mmio_write(offset, size.into(), value as u32, now);
                apply(effect);
                0
            }
        }
    }

    /// The value that both modes show under a register's number. `None`: no such register, or not
    /// readable.
    pub(super) fn read(&mut self, reg: u32, now: Now) -> Option<u32> {
        Some(match reg {
            ID if self.x2apic_mode() => self.apic_id(),
            ID => self.apic_id() << 24,
            VERSION => VERSION_VALUE,
            TPR => u32::from(self.tpr),
            PPR => u32::from(self.ppr()),
            // Arbitration priority and remote read are relics: zero.
            APR | RRD | EOI => 0,
            LDR if self.x2apic_mode() => LapicIdInfo::x2apic_ldr(self.id_byte()),
            LDR => self.ldr,
            DFR => self.dfr,
            SVR => self.svr,
            ISR..=ISR_LAST => self.isr.word(reg - ISR),
            TMR..=TMR_LAST => {
                self.merge();
                self.tmr.word(reg - TMR)
            }
            IRR..=IRR_LAST => {
                self.merge();
                self.irr.word(reg - IRR)
            }
            ESR => self.esr,
            ICR => self.icr,
            ICR_HIGH => self.icr_high,
            LVT_FIRST..=LVT_LAST => *self.lvt.get((reg - LVT_FIRST) as usize)?,
            TIMER_INITIAL => self.timer.initial(),
            TIMER_CURRENT => {
                self.timer_fired(now);
                self.timer.current(now)
            }
            TIMER_DIVIDE => self.timer.divide(),
            _ => return None,
        })
    }

    /// Writes of registers that mean the same in both modes; bits that cannot be set are dropped.
    pub(super) fn write(&mut self, reg: u32, value: u32, now: Now) -> Effect {
        match reg {
            TPR => self.set_tpr(value as u8),
            EOI => return self.eoi(),
            SVR => return self.write_svr(value, now),
            ESR => {
                self.merge();
                self.esr = core::mem::take(&mut self.errors);
            }
            LVT_FIRST..=LVT_LAST => self.write_lvt((reg - LVT_FIRST) as usize, value, now),
            TIMER_INITIAL => {
                self.timer_fired(now);
                self.timer.set_initial(value, now);
            }
            TIMER_DIVIDE => {
                self.timer_fired(now);
                self.timer.set_divide(value, now);
            }
            // Read-only registers.
            ID | VERSION | APR | PPR | RRD | ISR..=IRR_LAST | TIMER_CURRENT => {}
            _ => self.error(ESR_ILLEGAL_REGISTER),
        }
        Effect::None
    }

    /// Decodes an interrupt command; `dest` is in the width of the current mode.
    pub(super) fn write_icr(&mut self, value: u32, dest: Destination) -> Effect {
        let value = value & ICR_WRITABLE & !ICR_BUSY;
        self.icr = value;
        let Some(delivery) = Delivery::from_bits(value >> 8) else {
            return Effect::None;
        };
        let vector = value as u8;
        if delivery.has_vector() && vector < FIRST_VECTOR {
            self.error(ESR_SEND_ILLEGAL);
            return Effect::None;
        }
        // "INIT level de-assert" only ever synchronised arbitration ids.
        if delivery == Delivery::Init && value & 1 << 14 == 0 && value & 1 << 15 != 0 {
            return Effect::None;
        }
        let shorthand = match value >> 18 & 3 {
            0 => Shorthand::None,
            1 => Shorthand::Itself,
            2 => Shorthand::All,
            _ => Shorthand::Others,
        };
        if shorthand == Shorthand::Itself && delivery.has_vector() {
            self.raise(vector);
            return Effect::None;
        }
        Effect::Ipi(IpiRequest {
            // IPIs are edge triggered, whatever the trigger bit says.
            message: Message {
                dest,
                delivery,
                vector,
                level: false,
            },
            shorthand,
        })
    }

    fn write_svr(&mut self, value: u32, now: Now) -> Effect {
        let was_enabled = self.enabled();
        if was_enabled {
            self.timer_fired(now);
        }
        self.svr = value & SVR_WRITABLE;
        if self.svr & SVR_ENABLE == 0 {
            for lvt in &mut self.lvt {
                *lvt |= LVT_MASKED;
            }
        }
        self.publish();
        if !was_enabled && self.enabled() {
            Effect::Enabled
        } else {
            Effect::None
        }
    }

    fn write_lvt(&mut self, index: usize, value: u32, now: Now) {
        let (Some(entry), Some(writable)) = (self.lvt.get(index).copied(), LVT_WRITABLE.get(index))
        else {
            return;
        };
        let mut value = value & writable;
        if self.svr & SVR_ENABLE == 0 {
            value |= LVT_MASKED;
        }
        if index == LVT_TIMER {
            // An expiry that is due belongs to the old entry: under a mask it is lost.
            self.timer_fired(now);
            if (value ^ entry) & LVT_TIMER_MODE != 0 {
                self.timer.set_mode(Mode::from_lvt(value));
            }
        }
        if let Some(entry) = self.lvt.get_mut(index) {
            *entry = value;
        }
    }
}

/// Where an access starts within its register, in bits. `None`: it is no access to one register.
fn byte_shift(offset: u32, size: u32) -> Option<u32> {
    let byte = offset & 0xf;
    (matches!(size, 1 | 2 | 4) && byte + size <= 4 && u64::from(offset) < XAPIC_SIZE)
        .then_some(byte * 8)
}

fn width_mask(size: u32) -> u32 {
    match size {
        1 => 0xff,
        2 => 0xffff,
        _ => u32::MAX,
    }
}
