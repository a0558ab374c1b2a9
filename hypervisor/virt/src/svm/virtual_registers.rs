//! Guests without nested paging: what the CPU's control registers hold is not what the guest sees.
//!
//! The CPU always pages, through the shadow, and always protects the kernel's pages from its own
//! writes. A guest in long mode runs on the shadow's four levels, any other on its three levels
//! (PAE): in real mode too, which AMD-V allows with paging ("paged real mode", APM volume 2,
//! 15.19).

use crate::backend::Reg;
use crate::x86::*;
use oxen_types::paging::ShadowRoots;

use super::vmcb::Save;

/// The registers as the guest sees them.
#[derive(Clone, Copy, Debug)]
pub(super) struct VirtualRegisters {
    pub(super) cr0: u64,
    pub(super) cr3: u64,
    pub(super) cr4: u64,
    pub(super) efer: u64,
    pub(super) roots: ShadowRoots,
}

impl VirtualRegisters {
    pub(super) fn new(roots: ShadowRoots) -> Self {
        Self {
            cr0: CR0_ET,
            cr3: 0,
            cr4: 0,
            efer: 0,
            roots,
        }
    }

    /// Sets one of the registers that are kept here. False for others.
    pub(super) fn set(&mut self, reg: Reg, value: u64) -> bool {
        match reg {
            Reg::Cr0 => self.cr0 = value | CR0_ET,
            Reg::Cr3 => self.cr3 = value,
            Reg::Cr4 => self.cr4 = value,
            Reg::Efer => self.efer = value,
            _ => return false,
        }
        true
    }

    /// Puts into the save area what the CPU needs for what the guest sees.
    pub(super) fn apply(&self, save: &mut Save) {
        let paging = self.cr0 & CR0_PG != 0;
        let long = self.efer & EFER_LMA != 0;
        // Memory is cached for guests all the time.
        save.cr0 = self.cr0 & !(CR0_CD | CR0_NW) | CR0_PG | CR0_WP | CR0_ET;
        let unused = CR4_PCIDE | CR4_PGE | CR4_LA57 | CR4_PKE;
        // Without paging no page is a user's.
        let user_pages = if paging { 0 } else { CR4_SMEP | CR4_SMAP };
        // A machine check without MCE is a shutdown of the guest, of which the host learns nothing
        // (APM 15.12.18).
        save.cr4 = self.cr4 & !(unused | user_pages) | CR4_PAE | CR4_MCE;
        let mode = if long { EFER_LME | EFER_LMA } else { 0 };
        save.efer = self.efer & !(EFER_LME | EFER_LMA) | EFER_SVME | EFER_NX | mode;
        save.cr3 = self.root();
    }

    /// The value of the CPU's CR3 while this guest runs; nothing that the guest does changes CR3.
    pub(super) fn root(&self) -> u64 {
        if self.efer & EFER_LMA != 0 {
            self.roots.long.raw()
        } else {
            self.roots.pae.raw()
        }
    }
}
