//! The records LAPIC and LAPIC_REGS of a saved domain (xen/arch-x86/hvm/save.h).

use guest_pv_abi::{HvmHwLapic, HvmHwLapicRegs};

use super::regs::*;
use super::timer::Mode;
use super::{Lapic, Now};

// Bits of `HvmHwLapic::disabled`: by the spurious-vector register, by APIC_BASE.
const SW_DISABLED: u32 = 1;
const HW_DISABLED: u32 = 2;

/// The records contradict each other or the domain's CPUID policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RestoreError;

impl Lapic {
    /// The two records of this APIC.
    pub fn save(&mut self, now: Now) -> (HvmHwLapic, HvmHwLapicRegs) {
        self.timer_fired(now);
        let mut page = HvmHwLapicRegs { data: [0; 1024] };
        for (reg, slot) in page.data.chunks_exact_mut(16).enumerate() {
            if let Some(value) = self.read(reg as u32, now)
                && let Some(word) = slot.first_chunk_mut::<4>()
            {
                *word = value.to_le_bytes();
            }
        }
        let sw = if self.svr & SVR_ENABLE == 0 {
            SW_DISABLED
        } else {
            0
        };
        let hw = if self.hw_enabled() { 0 } else { HW_DISABLED };
        let hidden = HvmHwLapic {
            apic_base_msr: self.base,
            disabled: sw | hw,
            timer_divisor: self.timer.divisor(),
            tdt_msr: self.timer.deadline(),
        };
        (hidden, page)
    }

    /// Sets the state to that of the records. The timer counts from its initial value again; a TSC
    /// deadline stands.
    ///
    /// # Errors
    /// `RestoreError` if the records contradict each other or the domain's CPUID policy. The APIC
    /// is then as after reset.
    pub fn restore(
        &mut self,
        hidden: &HvmHwLapic,
        page: &HvmHwLapicRegs,
        now: Now,
    ) -> Result<(), RestoreError> {
        self.reset();
        let mode_bits = BASE_ENABLE | if self.config.x2apic { BASE_X2APIC } else { 0 };
        let mode = hidden.apic_base_msr & (BASE_ENABLE | BASE_X2APIC);
        if mode & !mode_bits != 0 || mode == BASE_X2APIC {
            return Err(RestoreError);
        }
        let reg = |number: u32| {
            page.data
                .chunks_exact(16)
                .nth(number as usize)
                .and_then(|slot| slot.first_chunk::<4>())
                .map_or(0, |word| u32::from_le_bytes(*word))
        };

        self.base = XAPIC_BASE | self.bsp_bit() | mode;
        self.tpr = reg(TPR) as u8;
        self.ldr = if self.x2apic_mode() {
            0
        } else {
            reg(LDR) & 0xff00_0000
        };
        self.dfr = reg(DFR) | 0x0fff_ffff;
        self.svr = reg(SVR) & SVR_WRITABLE;
        self.esr = reg(ESR);
        self.icr = reg(ICR) & ICR_WRITABLE;
        self.icr_high = reg(ICR_HIGH);
        for ((number, lvt), writable) in (LVT_FIRST..).zip(&mut self.lvt).zip(LVT_WRITABLE) {
            let masked = if self.svr & SVR_ENABLE == 0 {
                LVT_MASKED
            } else {
                0
            };
            *lvt = reg(number) & writable | masked;
        }
        for (number, word) in (ISR..).zip(&mut self.isr.0) {
            *word = reg(number);
        }
        for (number, word) in (TMR..).zip(&mut self.tmr.0) {
            *word = reg(number);
        }
        for (number, word) in (IRR..).zip(&mut self.irr.0) {
            *word = reg(number);
        }
        for set in [&mut self.isr, &mut self.tmr, &mut self.irr] {
            set.0[0] &= !0xffff;
        }
        self.timer.restore(
            Mode::from_lvt(self.lvt[LVT_TIMER]),
            reg(TIMER_DIVIDE),
            reg(TIMER_INITIAL),
            hidden.tdt_msr,
            now,
        );
        self.publish();
        Ok(())
    }
}
