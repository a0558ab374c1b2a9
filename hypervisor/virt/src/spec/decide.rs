//! What is done about speculation on this machine: a pure function of report and options.

use core::fmt;

use super::report::{ArchCaps, Vendor};
use super::{IBRS, Options, PSFD, Report, SSBD, STIBP};
use crate::policy::features::{Ext8Ebx, Ext21Eax, Leaf7Edx};

/// The features of speculation that guests are told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offer {
    /// Leaf 7 EDX and leaf 0x80000008 EBX: of the bits that are about speculation, these.
    pub leaf7: u32,
    pub ext8: u32,
    /// ARCH_CAPABILITIES as guests read it.
    pub arch_caps: u64,
}

impl Offer {
    /// Is there anything that a guest could set?
    fn guests_switch(&self) -> bool {
        self.leaf7 & !Leaf7Edx::ARCH_CAPS.bits() | self.ext8 != 0
    }

    /// The bits of leaf 7 EDX and of leaf 0x80000008 EBX that an offer decides on.
    pub const LEAF7: u32 = Leaf7Edx::IBRSB
        .union(Leaf7Edx::STIBP)
        .union(Leaf7Edx::L1D_FLUSH)
        .union(Leaf7Edx::ARCH_CAPS)
        .union(Leaf7Edx::SSBD)
        .bits();
    pub const EXT8: u32 = Ext8Ebx::IBPB
        .union(Ext8Ebx::IBRS)
        .union(Ext8Ebx::STIBP)
        .union(Ext8Ebx::IBRS_ALWAYS)
        .union(Ext8Ebx::STIBP_ALWAYS)
        .union(Ext8Ebx::IBRS_FAST)
        .union(Ext8Ebx::IBRS_SAME_MODE)
        .union(Ext8Ebx::SSBD)
        .union(Ext8Ebx::VIRT_SSBD)
        .union(Ext8Ebx::PSFD)
        .bits();
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Controls {
    /// SPEC_CTRL while the hypervisor runs, if the register exists.
    pub(super) host: Option<u64>,
    /// It must be written after each exit even if the guest has the same value.
    pub(super) rewrite: bool,
    /// Guests' SSBD goes through VIRT_SPEC_CTRL: a hypervisor below us has no other.
    pub(super) virt_ssbd: bool,
    /// EFER.AIBRSE.
    pub(super) automatic_ibrs: bool,
    pub(super) ibpb: bool,
    pub(super) ibpb_on_exit: bool,
    pub(crate) rsb: bool,
    pub(crate) verw: bool,
    pub(super) l1d_flush: bool,
    /// LFENCE is to be made serialising.
    pub(super) lfence: bool,
    pub offer: Offer,
    /// Vulnerable, and the microcode has no remedy (or it was switched off): named in the log.
    pub(super) l1tf_open: bool,
    pub(super) buffers_open: bool,
}

impl Controls {
    pub fn decide(report: &Report, wish: &Options) -> Self {
        let ibrs = report.has_ibrs() && wish.ibrs != Some(false);
        let automatic = ibrs && report.has_automatic_ibrs();
        let mut host = 0;
        if ibrs && !automatic {
            host |= IBRS;
        }
        if wish.stibp == Some(true) && report.has_stibp() {
            host |= STIBP;
        }
        if wish.ssbd == Some(true) && report.has_ssbd() {
            host |= SSBD;
        }
        if wish.psfd == Some(true) && report.has_psfd() {
            host |= PSFD;
        }
        let l1d_flush = match wish.l1d_flush {
            Some(wished) => wished,
            None => report.l1tf(),
        } && report.has_7(Leaf7Edx::L1D_FLUSH);
        let clears = report.has_7(Leaf7Edx::MD_CLEAR)
            || report
                .arch
                .intersects(ArchCaps::FB_CLEAR | ArchCaps::RFDS_CLEAR);
        let verw = match wish.md_clear {
            Some(wished) => wished,
            None => report.buffers(),
        } && clears;
        let automatic_is_enough = report.has_automatic_ibrs() || report.vendor == Vendor::Other;
        Self {
            host: report.has_spec_ctrl().then_some(host),
            rewrite: host & IBRS != 0 && !report.has_lasting_ibrs(),
            virt_ssbd: !report.has_ssbd() && report.has_ext8(Ext8Ebx::VIRT_SSBD),
            automatic_ibrs: automatic,
            ibpb: wish.ibpb.unwrap_or(true) && report.has_ibpb(),
            ibpb_on_exit: wish.ibpb_entry == Some(true) && report.has_ibpb(),
            rsb: wish.rsb.unwrap_or(!automatic_is_enough),
            verw,
            l1d_flush,
            lfence: report.vendor == Vendor::Amd
                && report.family >= 0x10
                && report.family != 0x11
                && !report.has_ext21(Ext21Eax::LFENCE_DISPATCH),
            offer: offer(report, wish),
            l1tf_open: report.l1tf() && !l1d_flush,
            buffers_open: report.buffers() && !verw,
        }
    }
}

/// What guests may use: what the CPU has, as long as their values are switched.
fn offer(report: &Report, wish: &Options) -> Offer {
    // Facts about the CPU that make a guest's own measures unnecessary, and the flush that we do for it.
    let known = ArchCaps::RDCL_NO
        | ArchCaps::IBRS_ALL
        | ArchCaps::RSBA
        | ArchCaps::SSB_NO
        | ArchCaps::MDS_NO
        | ArchCaps::IF_PSCHANGE_MC_NO
        | ArchCaps::TAA_NO
        | ArchCaps::SBDR_SSDP_NO
        | ArchCaps::FBSDP_NO
        | ArchCaps::PSDP_NO
        | ArchCaps::FB_CLEAR
        | ArchCaps::RRSBA
        | ArchCaps::BHI_NO
        | ArchCaps::PBRSB_NO
        | ArchCaps::GDS_NO
        | ArchCaps::RFDS_NO
        | ArchCaps::RFDS_CLEAR;
    let facts = Leaf7Edx::ARCH_CAPS.bits() & report.leaf7;
    let arch_caps = match facts {
        0 => 0,
        _ => (report.arch & known | ArchCaps::SKIP_L1DFL).bits(),
    };
    if wish.msr_sc == Some(false) {
        return Offer {
            leaf7: facts,
            ext8: 0,
            arch_caps,
        };
    }
    let mut ext8 = report.ext8 & Offer::EXT8;
    if report.vendor == Vendor::Amd && report.has_ssbd() {
        // The register of hypervisors works too, whatever the CPU has for it.
        ext8 |= Ext8Ebx::VIRT_SSBD.bits();
    }
    Offer {
        leaf7: report.leaf7 & Offer::LEAF7,
        ext8,
        arch_caps,
    }
}

/// One line for the log.
impl fmt::Display for Controls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.unwrap_or(0);
        let parts = [
            (self.automatic_ibrs, "automatic IBRS"),
            (host & IBRS != 0 && self.rewrite, "IBRS at each exit"),
            (host & IBRS != 0 && !self.rewrite, "IBRS"),
            (host & STIBP != 0, "STIBP"),
            (host & SSBD != 0, "SSBD"),
            (host & PSFD != 0, "PSFD"),
            (self.rsb, "RSB overwritten at exit"),
            (self.ibpb_on_exit, "IBPB at exit"),
            (self.ibpb, "IBPB between domains"),
            (self.l1d_flush, "L1D flushed at entry"),
            (self.verw, "buffers cleared at entry"),
            (self.lfence, "LFENCE serialises"),
            (
                self.host.is_some() && self.offer.guests_switch(),
                "guests have SPEC_CTRL",
            ),
            (self.virt_ssbd, "guests have VIRT_SPEC_CTRL"),
            (self.l1tf_open, "L1TF OPEN"),
            (self.buffers_open, "MDS OPEN"),
        ];
        let mut separator = "";
        for (_, name) in parts.iter().filter(|(on, _)| *on) {
            write!(f, "{separator}{name}")?;
            separator = ", ";
        }
        if separator.is_empty() {
            f.write_str("nothing")
        } else {
            Ok(())
        }
    }
}
