//! Virtualization of the local APIC by the CPU (SDM volume 3, chapter 30). In x2APIC mode, reads of
//! registers, the task priority, EOI and self-IPIs cause no exit, and the CPU delivers pending and
//! posted interrupts itself.
//!
//! The registers are in the virtual-APIC page, the highest requested and serviced vectors in the
//! VMCS. The model of the APIC (`dev::lapic`) lends its state for one or more entries
//! ([`ApicAssist::lend`]) and takes it back ([`ApicAssist::take_back`]). The controls of the VMCS
//! follow at the next entry. The page of xAPIC mode is always emulated.
#![allow(unsafe_code, reason = "writes fields of the VMCS")]

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use bytemuck::Zeroable;
use oxen_types::Maddr;

use super::caps::{VmxCaps, pin};
use super::{VmxVcpu, field, insn, maps, state};
use crate::backend::ApicAssist;
use crate::dev::lapic::{LapicImage, LapicPosted};
use crate::error::VirtError;
use crate::permission_maps::DomainControls;
use crate::zeroed::ToMaddr;
use crate::zeroed::zeroed_box;

// Offsets of registers in the virtual-APIC page (SDM volume 3, 30.1.1), in words.
const ID: usize = 0x20 / 4;
const VERSION: usize = 0x30 / 4;
const TPR: usize = 0x80 / 4;
const LDR: usize = 0xd0 / 4;
const ISR: usize = 0x100 / 4;
const TMR: usize = 0x180 / 4;
const IRR: usize = 0x200 / 4;
const SELF_IPI: usize = 0x3f0 / 4;
/// Words from one part of a 256-bit register (ISR, TMR, IRR) to the next.
const STEP: usize = 4;

#[derive(Zeroable)]
#[repr(C, align(4096))]
struct Page([AtomicU32; 1024]);

impl Page {
    fn get(&self, at: usize) -> u32 {
        self.0
            .get(at)
            .map_or(0, |word| word.load(Ordering::Relaxed))
    }

    fn set(&self, at: usize, value: u32) {
        if let Some(word) = self.0.get(at) {
            word.store(value, Ordering::Relaxed);
        }
    }

    fn set_all(&self, at: usize, values: &[u32; 8]) {
        for (n, value) in values.iter().enumerate() {
            self.set(at + n * STEP, *value);
        }
    }

    fn get_all(&self, at: usize) -> [u32; 8] {
        core::array::from_fn(|n| self.get(at + n * STEP))
    }
}

/// A vcpu's virtual-APIC page, and whether its APIC is lent to the CPU.
pub(super) struct Apic {
    page: Box<Page>,
    pub(super) maddr: Maddr,
    /// The descriptor of posted interrupts, with its machine address.
    posted: Option<(Arc<LapicPosted>, Maddr)>,
    /// The page has the current state of the APIC, not the model.
    lent: bool,
    /// The controls in the VMCS let the CPU use the page.
    on: bool,
}

impl Apic {
    pub(super) fn new(to_maddr: ToMaddr) -> Result<Self, VirtError> {
        let page = zeroed_box::<Page>()?;
        let maddr = to_maddr(core::ptr::from_ref::<Page>(&page).expose_provenance());
        Ok(Self {
            page,
            maddr,
            posted: None,
            lent: false,
            on: false,
        })
    }

    /// The descriptor that the CPU takes posted interrupts from.
    pub(super) fn set_posted(&mut self, posted: &Arc<LapicPosted>, to_maddr: ToMaddr) {
        let at = core::ptr::from_ref(posted.descriptor()).expose_provenance();
        self.posted = Some((posted.clone(), to_maddr(at)));
    }

    /// The class of the task priority. The page has the current one whether or not the APIC is
    /// lent.
    pub(super) fn cr8(&self) -> u64 {
        u64::from(self.page.get(TPR)) >> 4 & 15
    }

    pub(super) fn set_cr8(&self, class: u64) {
        self.page.set(TPR, (class as u32 & 15) << 4);
    }

    /// The vector of a self-IPI that the CPU has left to the hypervisor.
    pub(super) fn self_ipi(&self) -> u8 {
        self.page.get(SELF_IPI) as u8
    }

    fn put(&self, image: &LapicImage) {
        let page = &self.page;
        page.set(ID, image.id);
        page.set(VERSION, image.version);
        page.set(LDR, image.ldr);
        page.set(TPR, image.tpr.into());
        page.set_all(TMR, &image.tmr);
        page.set_all(IRR, &image.irr);
        page.set_all(ISR, &image.isr);
    }

    /// The registers that the CPU may have modified; the others are zero.
    fn modified(&self) -> LapicImage {
        let page = &self.page;
        LapicImage {
            tpr: page.get(TPR) as u8,
            irr: page.get_all(IRR),
            isr: page.get_all(ISR),
            ..LapicImage::default()
        }
    }
}

/// The guest interrupt status: the highest requested vector in bits 0 to 7, the highest vector in
/// service in bits 8 to 15.
fn status(image: &LapicImage) -> u64 {
    highest(&image.irr) | highest(&image.isr) << 8
}

fn highest(set: &[u32; 8]) -> u64 {
    let found = set.iter().enumerate().rfind(|(_, word)| **word != 0);
    found.map_or(0, |(n, word)| n as u64 * 32 + u64::from(word.ilog2()))
}

/// The EOI-exit bitmap in its four fields: EOIs of level-triggered vectors exit.
fn eoi_exits(tmr: &[u32; 8]) -> [u64; 4] {
    core::array::from_fn(|n| {
        let word = |n: usize| tmr.get(n).copied().map_or(0, u64::from);
        word(2 * n) | word(2 * n + 1) << 32
    })
}

/// The secondary controls and the MSR permission map, with the APIC lent or not. The two must
/// match: with the map of a lent APIC and without its controls, the guest would access the
/// machine's own APIC.
fn controls(caps: &VmxCaps, domain: &DomainControls, lent: bool) -> [(u32, u64); 2] {
    let apic = if lent { caps.apic } else { 0 };
    [
        (field::SECONDARY_CONTROLS, (caps.second | apic).into()),
        (field::MSR_MAP, maps::msr_map(domain, lent).raw()),
    ]
}

impl ApicAssist for VmxVcpu {
    fn lend(&mut self, image: &LapicImage) {
        self.apic.put(image);
        let [a, b, c, d] = eoi_exits(&image.tmr);
        let [at_a, at_b, at_c, at_d] = field::EOI_EXITS;
        let fields = [
            (field::INTERRUPT_STATUS, status(image)),
            (at_a, a),
            (at_b, b),
            (at_c, c),
            (at_d, d),
        ];
        // SAFETY: the CPU has these fields, as it has the control; they describe the guest's
        // interrupts only.
        unsafe {
            for (field, value) in fields {
                insn::vmwrite(field, value);
            }
        }
        self.apic.lent = true;
    }

    fn take_back(&mut self) -> Option<LapicImage> {
        core::mem::take(&mut self.apic.lent).then(|| self.apic.modified())
    }

    fn set_posted(&mut self, posted: &Arc<LapicPosted>) {
        self.apic.set_posted(posted, self.to_maddr);
    }

    fn delivers_posted(&self) -> bool {
        self.posting()
    }
}

impl VmxVcpu {
    /// Before an entry: makes the controls say whether the APIC is lent.
    pub(super) fn match_apic_controls(&mut self) {
        let lent = self.apic.lent;
        if self.apic.on == lent {
            return;
        }
        self.apic.on = lent;
        if self.posting() {
            let bit = u64::from(pin::POSTED_INTERRUPTS);
            self.state.change(state::PIN_CONTROLS, bit, lent);
        }
        // SAFETY: the map that opens the x2APIC's MSRs is set together with the controls that
        // virtualize these registers, and only then.
        unsafe {
            for (field, value) in controls(&self.caps, &self.domain, lent) {
                insn::vmwrite(field, value);
            }
        }
    }

    /// Whether the CPU delivers posted interrupts while the APIC is lent.
    pub(super) fn posting(&self) -> bool {
        self.caps.posted && self.apic.posted.is_some()
    }

    /// Writes the fields of the VMCS that never change.
    pub(super) fn prepare_apic(&self) {
        // SAFETY: this vcpu owns the page and keeps the descriptor alive.
        unsafe {
            insn::vmwrite(field::VIRTUAL_APIC, self.apic.maddr.raw());
            if let Some((_, at)) = self.apic.posted.as_ref().filter(|_| self.posting()) {
                insn::vmwrite(field::POSTED_DESCRIPTOR, at.raw());
                insn::vmwrite(field::POSTED_VECTOR, oxen_arch::vectors::POSTED.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmx::caps::second;

    fn set(vectors: &[u8]) -> [u32; 8] {
        let mut set = [0u32; 8];
        for vector in vectors {
            set[usize::from(vector / 32)] |= 1 << (vector % 32);
        }
        set
    }

    #[test]
    fn the_page_gives_back_what_it_got() {
        let apic = Apic::new(|virt| Maddr::new(virt as u64)).unwrap();
        assert_eq!(apic.maddr.page_offset(), 0);
        let image = LapicImage {
            id: 6,
            version: 0x5_0014,
            ldr: 1 << 6,
            tmr: set(&[0x51]),
            tpr: 0x35,
            irr: set(&[0x20, 0xff]),
            isr: set(&[0x1f, 0x80]),
        };
        apic.put(&image);
        let word = |at: usize| apic.page.get(at / 4);
        assert_eq!([word(0x20), word(0x30), word(0xd0)], [6, 0x5_0014, 1 << 6]);
        assert_eq!(
            [word(0x1a0), word(0x210), word(0x270)],
            [1 << 17, 1, 1 << 31]
        );
        assert_eq!([word(0x100), word(0x140)], [1 << 31, 1]);
        let back = apic.modified();
        assert_eq!((back.tpr, back.irr, back.isr), (0x35, image.irr, image.isr));
        assert_eq!(apic.cr8(), 3);
        apic.set_cr8(0x17);
        assert_eq!(word(0x80), 0x70);
    }

    #[test]
    fn the_status_has_the_highest_of_both() {
        let image = |irr: &[u8], isr: &[u8]| LapicImage {
            irr: set(irr),
            isr: set(isr),
            ..LapicImage::default()
        };
        assert_eq!(status(&image(&[], &[])), 0);
        assert_eq!(status(&image(&[0x31, 0xef], &[0x30, 0x91])), 0x91ef);
    }

    #[test]
    fn level_triggered_vectors_exit_at_their_end() {
        let [a, b, c, d] = eoi_exits(&set(&[0x10, 0x3f, 0x41, 0xff]));
        assert_eq!([a, b, c, d], [1 << 63 | 1 << 16, 2, 0, 1 << 63]);
    }

    #[test]
    fn the_apics_registers_are_open_only_with_its_controls() {
        let caps = crate::vmx::caps::tests::caps();
        let domain = maps::new(false, |virt| Maddr::new(virt as u64)).unwrap();
        let [(_, second), (_, map)] = controls(&caps, &domain, false);
        let all = u64::from(second::X2APIC | second::APIC_REGISTERS | second::INTERRUPT_DELIVERY);
        assert_eq!(
            (second & all, map),
            (0, maps::msr_map(&domain, false).raw())
        );
        let [(_, second), (_, lent)] = controls(&caps, &domain, true);
        assert_eq!((second & all, lent), (all, map + 4096));
    }
}
