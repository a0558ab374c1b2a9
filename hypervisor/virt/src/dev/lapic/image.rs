//! A local APIC in the hands of the hardware: Intel's APIC virtualization (SDM volume 3, chapter
//! 30) takes and completes interrupts without an exit while its vcpu is loaded.
//!
//! It is lent: [`Lapic::image`] makes what the hardware starts from, [`Lapic::take`] brings back
//! what it made of it. In between, this model is out of date in just these sets and the task
//! priority. Whoever asks it anything about them takes the image back first.

use super::Lapic;
use super::shared::LapicIdInfo;

/// The part of a local APIC in x2APIC mode that the hardware needs.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct LapicImage {
    /// Registers that do not change while it is lent.
    pub id: u32,
    pub version: u32,
    pub ldr: u32,
    /// Level-triggered vectors: their completion is to be told.
    pub tmr: [u32; 8],
    /// The TPR; the hardware changes this field and those below.
    pub tpr: u8,
    pub irr: [u32; 8],
    pub isr: [u32; 8],
}

impl Lapic {
    /// Can the hardware keep it as it is? Not the page of xAPIC mode, which is emulated, nor one
    /// that is switched off and delivers nothing.
    pub fn suits_hardware(&self) -> bool {
        self.x2apic_mode() && self.enabled()
    }

    /// Whether posted vectors wait to be merged, so that a lent image is out of date.
    pub fn has_news(&self) -> bool {
        self.posted.has_news()
    }

    /// With all that was posted.
    pub fn image(&mut self) -> LapicImage {
        self.merge();
        LapicImage {
            id: self.apic_id(),
            version: super::regs::VERSION_VALUE,
            ldr: LapicIdInfo::x2apic_ldr(self.id_byte()),
            tmr: self.tmr.0,
            tpr: self.tpr,
            irr: self.irr.0,
            isr: self.isr.0,
        }
    }

    /// The hardware's sets are the truth now.
    pub fn take(&mut self, image: &LapicImage) {
        self.tpr = image.tpr;
        self.irr.0 = image.irr;
        self.isr.0 = image.isr;
        for set in [&mut self.irr, &mut self.isr] {
            set.0[0] &= !0xffff;
        }
        self.publish();
    }
}
