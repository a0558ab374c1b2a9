//! The APIC's MSRs: APIC_BASE, TSC_DEADLINE and the x2APIC range, with their #GP rules
//! (SDM vol. 3, "Extended XAPIC (x2APIC)", tables of register access and of state transitions).

use super::regs::*;
use super::{Effect, Lapic, Now};
use crate::dev::message::Destination;

/// The access raises #GP(0) in the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GpFault;

impl Lapic {
    /// Whether the local APIC handles accesses of this MSR.
    pub const fn owns_msr(msr: u32) -> bool {
        matches!(
            msr,
            MSR_APIC_BASE | MSR_TSC_DEADLINE | MSR_X2APIC_FIRST..=MSR_X2APIC_LAST
        )
    }

    pub fn msr_read(&mut self, msr: u32, now: Now) -> Result<u64, GpFault> {
        match msr {
            MSR_APIC_BASE => Ok(self.base),
            MSR_TSC_DEADLINE => {
                self.timer_fired(now);
                Ok(self.timer.deadline())
            }
            _ => self.x2apic_read(x2apic_register(msr)?, now),
        }
    }

    pub fn msr_write(&mut self, msr: u32, value: u64, now: Now) -> Result<Effect, GpFault> {
        match msr {
            MSR_APIC_BASE => self.write_base(value),
            MSR_TSC_DEADLINE => {
                self.timer_fired(now);
                if self.hw_enabled() {
                    self.timer.set_deadline(value, now);
                    self.timer_fired(now);
                }
                Ok(Effect::None)
            }
            _ => self.x2apic_write(x2apic_register(msr)?, value, now),
        }
    }

    fn x2apic_read(&mut self, reg: u32, now: Now) -> Result<u64, GpFault> {
        if !self.x2apic_mode() {
            return Err(GpFault);
        }
        match reg {
            // Not part of x2APIC, or write-only.
            APR | EOI | RRD | DFR | ICR_HIGH => Err(GpFault),
            ICR => Ok(u64::from(self.icr_high) << 32 | u64::from(self.icr)),
            _ => self.read(reg, now).map(u64::from).ok_or(GpFault),
        }
    }

    fn x2apic_write(&mut self, reg: u32, value: u64, now: Now) -> Result<Effect, GpFault> {
        if !self.x2apic_mode() || value & !x2apic_writable(reg).ok_or(GpFault)? != 0 {
            return Err(GpFault);
        }
        let low = value as u32;
        Ok(match reg {
            ICR => {
                self.icr_high = (value >> 32) as u32;
                self.write_icr(low, Destination::wide(self.icr_high, low & 1 << 11 != 0))
            }
            SELF_IPI => self.self_ipi(low as u8),
            _ => self.write(reg, low, now),
        })
    }

    fn self_ipi(&mut self, vector: u8) -> Effect {
        if vector < FIRST_VECTOR {
            self.error(ESR_SEND_ILLEGAL);
        } else {
            self.raise(vector);
        }
        Effect::None
    }

    /// Allowed: xAPIC to x2APIC, either to disabled, disabled to xAPIC. Disabling loses all state.
    /// The page cannot move: p2m's hole for it is shared by all vcpus.
    fn write_base(&mut self, value: u64) -> Result<Effect, GpFault> {
        let mode_bits = BASE_ENABLE | if self.config.x2apic { BASE_X2APIC } else { 0 };
        if value & !(BASE_ADDRESS | BASE_BSP | mode_bits) != 0 {
            return Err(GpFault);
        }
        let enable = value & BASE_ENABLE != 0;
        let x2apic = value & BASE_X2APIC != 0;
        let legal = match (enable, x2apic) {
            (false, true) => false,
            (false, false) => true,
            (true, false) => !self.x2apic_mode() && value & BASE_ADDRESS == XAPIC_BASE,
            (true, true) => self.hw_enabled(),
        };
        if !legal {
            return Err(GpFault);
        }
        let was_enabled = self.hw_enabled();
        self.base = XAPIC_BASE | self.bsp_bit() | value & mode_bits;
        if was_enabled != enable {
            self.init();
        }
        if x2apic {
            // From here on it follows from the id.
            self.ldr = 0;
        }
        self.publish();
        Ok(Effect::None)
    }
}

fn x2apic_register(msr: u32) -> Result<u32, GpFault> {
    match msr {
        MSR_X2APIC_FIRST..=MSR_X2APIC_LAST => Ok(msr - MSR_X2APIC_FIRST),
        _ => Err(GpFault),
    }
}

/// The bits that may be set in a write; any other is #GP. `None`: not writable at all.
fn x2apic_writable(reg: u32) -> Option<u64> {
    Some(match reg {
        TPR | SELF_IPI => 0xff,
        EOI | ESR => 0,
        SVR => u64::from(SVR_WRITABLE),
        ICR => 0xffff_ffff_0000_0000 | u64::from(ICR_WRITABLE),
        LVT_FIRST..=LVT_LAST => {
            let writable = LVT_WRITABLE.get((reg - LVT_FIRST) as usize)?;
            u64::from(*writable | LVT_READ_ONLY)
        }
        TIMER_INITIAL => u64::from(u32::MAX),
        TIMER_DIVIDE => 0xb,
        _ => return None,
    })
}
