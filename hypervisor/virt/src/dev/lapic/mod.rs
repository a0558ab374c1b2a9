//! The virtual local APIC of one vcpu (Intel SDM vol. 3, "Advanced Programmable Interrupt
//! Controller").
//!
//! Two halves: [`LapicPosted`], which any CPU may post to without a lock, and [`Lapic`], which only
//! the CPU that runs the vcpu touches. `Lapic` merges what was posted before each entry to the
//! guest.
//!
//! Fixed properties: the APIC id is 2 * vcpu; the xAPIC page stays at its default address; six LVT
//! entries; no suppression of EOI broadcasts; a 100 MHz timer.
//!
//! Invariants: no bit below 16 in IRR, ISR or TMR; while software-disabled all LVT entries are
//! masked and nothing is delivered; what is published is what the registers say.

mod access;
mod deliver;
mod descriptor;
mod image;
mod msr;
mod regs;
mod save;
mod shared;
mod timer;
mod vectors;
mod window;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;

pub use deliver::{Bus, IpiRequest, Shorthand, deliver, send_ipi};
pub use descriptor::Descriptor;
pub use image::LapicImage;
pub use msr::GpFault;
pub use regs::{
    MSR_APIC_BASE, MSR_TSC_DEADLINE, MSR_X2APIC_FIRST, MSR_X2APIC_LAST, XAPIC_BASE, XAPIC_SIZE,
};
pub use save::RestoreError;
pub use shared::{Events, LapicIdInfo, LapicPosted, Posted};
pub use timer::Now;
pub use window::Window;

use regs::*;
use timer::Timer;
use vectors::Vectors;

/// The highest vcpu that an 8-bit APIC id of 2 * vcpu can name (255 is broadcast).
pub const MAX_VCPU: u32 = 127;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LapicConfig {
    /// At most [`MAX_VCPU`].
    pub vcpu: u32,
    /// The guest's TSC frequency.
    pub tsc_khz: u32,
    /// Whether CPUID shows x2APIC.
    pub x2apic: bool,
}

/// The work that is left to the caller after a register was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Effect {
    None,
    /// Hand it to [`send_ipi`].
    Ipi(IpiRequest),
    /// A level-triggered vector was completed: tell the IO-APICs.
    LevelEoi(u8),
    /// Software just enabled the APIC: raise again whatever it could not take before (the event
    /// channel upcall, if it is pending).
    Enabled,
}

/// The interrupt that a local APIC has for its guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Nothing, or nothing before an interrupt in service is completed, which is seen.
    Nothing,
    /// A vector to inject.
    Take(u8),
    /// A vector of this class, which only the task priority holds back: it can be taken, without an
    /// exit, when the guest lowers CR8.
    HeldByPriority(u8),
}

impl Next {
    /// The event for which the guest has to be left while this interrupt is not injected.
    pub fn window(self) -> Window {
        match self {
            Self::Nothing => Window::Unwanted,
            Self::Take(_) => Window::Interrupts,
            Self::HeldByPriority(class) => Window::Priority(class),
        }
    }
}

#[derive(Debug)]
pub struct Lapic {
    posted: Arc<LapicPosted>,
    config: LapicConfig,
    base: u64,
    tpr: u8,
    ldr: u32,
    dfr: u32,
    svr: u32,
    esr: u32,
    /// Errors since the last write of ESR, which makes them visible.
    errors: u32,
    icr: u32,
    icr_high: u32,
    lvt: [u32; LVT_COUNT],
    irr: Vectors,
    isr: Vectors,
    tmr: Vectors,
    timer: Timer,
}

impl Lapic {
    /// In its power-on state. `None`: the vcpu's number is too high.
    pub fn new(config: LapicConfig) -> Option<Self> {
        if config.vcpu > MAX_VCPU {
            return None;
        }
        let mut lapic = Self {
            posted: Arc::default(),
            config,
            base: 0,
            tpr: 0,
            ldr: 0,
            dfr: DFR_FLAT,
            svr: 0xff,
            esr: 0,
            errors: 0,
            icr: 0,
            icr_high: 0,
            lvt: [LVT_MASKED; LVT_COUNT],
            irr: Vectors::default(),
            isr: Vectors::default(),
            tmr: Vectors::default(),
            timer: Timer::new(config.tsc_khz),
        };
        lapic.reset();
        Some(lapic)
    }

    /// The half that others post to.
    pub fn posted(&self) -> &Arc<LapicPosted> {
        &self.posted
    }

    /// Power-on reset: xAPIC mode, software-disabled.
    pub fn reset(&mut self) {
        self.base = XAPIC_BASE | BASE_ENABLE | self.bsp_bit();
        self.init();
    }

    /// INIT: as reset, but APIC_BASE (and with it the mode) stays.
    pub fn init(&mut self) {
        self.tpr = 0;
        self.ldr = 0;
        self.dfr = DFR_FLAT;
        self.svr = 0xff;
        self.esr = 0;
        self.errors = 0;
        self.icr = 0;
        self.icr_high = 0;
        self.lvt = [LVT_MASKED; LVT_COUNT];
        self.irr = Vectors::default();
        self.isr = Vectors::default();
        self.tmr = Vectors::default();
        self.timer.reset();
        self.publish();
        // After the APIC shows itself disabled, so that no sender adds to what is dropped here.
        self.posted.discard();
    }

    pub fn apic_id(&self) -> u32 {
        self.config.vcpu * 2
    }

    pub fn hw_enabled(&self) -> bool {
        self.base & BASE_ENABLE != 0
    }

    fn xapic_mode(&self) -> bool {
        self.base & (BASE_ENABLE | BASE_X2APIC) == BASE_ENABLE
    }

    pub fn x2apic_mode(&self) -> bool {
        self.base & (BASE_ENABLE | BASE_X2APIC) == BASE_ENABLE | BASE_X2APIC
    }

    /// Enabled both in APIC_BASE and by the spurious vector register.
    pub fn enabled(&self) -> bool {
        self.hw_enabled() && self.svr & SVR_ENABLE != 0
    }

    /// The interrupt that is due to the guest. Merges posted vectors first.
    pub fn due(&mut self) -> Next {
        let Some(vector) = self.highest_requested() else {
            return Next::Nothing;
        };
        let class = vector & 0xf0;
        if class > self.ppr() & 0xf0 {
            Next::Take(vector)
        } else if class > self.isr.highest().unwrap_or(0) & 0xf0 {
            Next::HeldByPriority(class >> 4)
        } else {
            Next::Nothing
        }
    }

    /// The vector to inject now: the highest pending one, if its class is above the processor's
    /// priority. Merges what was posted.
    pub fn highest_pending(&mut self) -> Option<u8> {
        match self.due() {
            Next::Take(vector) => Some(vector),
            Next::HeldByPriority(_) | Next::Nothing => None,
        }
    }

    /// The guest takes `vector`: IRR to ISR. Returns whether it was pending.
    pub fn accept(&mut self, vector: u8) -> bool {
        if !self.irr.contains(vector) {
            return false;
        }
        self.irr.remove(vector);
        self.isr.insert(vector);
        self.publish();
        true
    }

    /// Raises a vector from the owner's side (its own timer, an upcall on this CPU).
    pub fn raise(&mut self, vector: u8) -> bool {
        if !self.enabled() {
            return false;
        }
        if vector < FIRST_VECTOR {
            self.error(ESR_RECEIVE_ILLEGAL);
            return false;
        }
        self.irr.insert(vector);
        self.tmr.remove(vector);
        true
    }

    /// The task priority's class, as CR8 has it.
    pub fn cr8(&self) -> u8 {
        self.tpr >> 4
    }

    /// Only the low four bits count.
    pub fn set_cr8(&mut self, class: u8) {
        self.set_tpr(class << 4);
    }

    /// When to call [`Lapic::timer_fired`], in host nanoseconds. Ask again after every access.
    pub fn timer_deadline(&self) -> Option<u64> {
        match self.lvt[LVT_TIMER] & LVT_MASKED {
            0 if self.enabled() => self.timer.expiry(),
            _ => None,
        }
    }

    /// Catches up with the clock, and raises the timer's vector if it expired. Harmless when early.
    pub fn timer_fired(&mut self, now: Now) {
        let lvt = self.lvt[LVT_TIMER];
        if self.timer.settle(now) && lvt & LVT_MASKED == 0 {
            self.raise(lvt as u8);
        }
    }

    fn highest_requested(&mut self) -> Option<u8> {
        self.merge();
        self.irr.highest().filter(|_| self.enabled())
    }

    fn merge(&mut self) {
        let errors = self.posted.merge_into(&mut self.irr, &mut self.tmr);
        if errors != 0 {
            self.error(errors);
        }
    }

    fn ppr(&self) -> u8 {
        let in_service = self.isr.highest().unwrap_or(0) & 0xf0;
        if self.tpr & 0xf0 >= in_service {
            self.tpr
        } else {
            in_service
        }
    }

    fn set_tpr(&mut self, tpr: u8) {
        if self.tpr != tpr {
            self.tpr = tpr;
            self.publish();
        }
    }

    fn eoi(&mut self) -> Effect {
        self.merge();
        let Some(vector) = self.isr.highest() else {
            return Effect::None;
        };
        self.isr.remove(vector);
        self.publish();
        if self.tmr.contains(vector) {
            Effect::LevelEoi(vector)
        } else {
            Effect::None
        }
    }

    /// Notes an error, and raises the error vector when it is news.
    fn error(&mut self, bits: u32) {
        if self.errors & bits == bits {
            return;
        }
        self.errors |= bits;
        let lvt = self.lvt[LVT_ERROR];
        if lvt & LVT_MASKED != 0 || !self.enabled() {
            return;
        }
        let vector = lvt as u8;
        if vector < FIRST_VECTOR {
            // An illegal error vector is one more error, but not one more interrupt.
            self.errors |= ESR_RECEIVE_ILLEGAL;
        } else {
            self.irr.insert(vector);
            self.tmr.remove(vector);
        }
    }

    fn bsp_bit(&self) -> u64 {
        if self.config.vcpu == 0 { BASE_BSP } else { 0 }
    }

    fn id_byte(&self) -> u8 {
        (self.config.vcpu * 2) as u8
    }

    fn publish(&self) {
        self.posted.publish(LapicIdInfo {
            id: self.id_byte(),
            logical_id: (self.ldr >> 24) as u8,
            flat: self.dfr == DFR_FLAT,
            x2apic: self.x2apic_mode(),
            hw_enabled: self.hw_enabled(),
            enabled: self.enabled(),
            priority: self.ppr(),
        });
    }
}
