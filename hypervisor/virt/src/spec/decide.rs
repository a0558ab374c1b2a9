//! The measures against speculation on this machine: a pure function of report and options.

use core::fmt;

use super::errata::Errata;
use super::report::{ArchCaps, Vendor};
use super::{BHI_DIS_S, IBRS, Options, PSFD, Report, SSBD, STIBP};
use crate::features::{Ext8Ebx, Leaf7Edx};

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
    /// Whether there is anything that a guest could set.
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

/// The measures that a CPU needs and does not get, each by the name that its vendor or finder gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Open {
    pub(super) bti: bool,
    pub(super) btc: bool,
    pub(super) srso: bool,
    pub(super) bhi: bool,
    pub(super) its: bool,
    pub(super) l1tf: bool,
    pub(super) mds: bool,
    pub(super) tsa: bool,
    pub(super) gds: bool,
    pub(super) div: bool,
}

impl Open {
    /// Name, cause and remedy of each.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        const MICROCODE: &str = "microcode without a remedy, or switched off by spec-ctrl=";
        [
            (
                self.bti,
                "BTI",
                "Spectre v2 without IBRS or IBPB at exit: load newer microcode",
            ),
            (
                self.btc,
                "BTC",
                "branch type confusion without IBPB at exit: load newer microcode",
            ),
            (
                self.srso,
                "SRSO",
                "return stack overflow without IBPB at exit: load newer microcode",
            ),
            (
                self.bhi,
                "BHI",
                "branch history injection, and the CPU has no BHI_DIS_S",
            ),
            (
                self.its,
                "ITS",
                "indirect target selection: no return thunks in this build",
            ),
            (self.l1tf, "L1TF", MICROCODE),
            (self.mds, "MDS", MICROCODE),
            (self.tsa, "TSA", MICROCODE),
            (
                self.gds,
                "GDS",
                "gather data sampling: load newer microcode",
            ),
            (
                self.div,
                "DIV",
                "the divider leaks between threads of a core: switch SMT off",
            ),
        ]
        .into_iter()
        .filter_map(|(open, name, text)| open.then_some((name, text)))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Controls {
    /// SPEC_CTRL while the hypervisor runs, if the register exists.
    pub(super) host: Option<u64>,
    /// SPEC_CTRL must be written after each exit even if the guest has the same value.
    pub(super) rewrite: bool,
    /// Guests' SSBD goes through VIRT_SPEC_CTRL: a hypervisor below us has no other.
    pub(super) virt_ssbd: bool,
    /// EFER.AIBRSE.
    pub(super) automatic_ibrs: bool,
    /// Between vcpus.
    pub(super) ibpb: bool,
    pub(super) ibpb_on_exit: bool,
    pub(super) ibpb_on_exit_of_dom0: bool,
    pub(super) rsb: bool,
    pub(super) verw: bool,
    pub(super) l1d_flush: bool,
    /// The divider's contents are overwritten at entry (XSA-439).
    pub(super) div: bool,
    pub errata: Errata,
    pub offer: Offer,
    pub open: Open,
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
        let bhi_dis_s = wish.bhi_dis_s.unwrap_or(report.bhi()) && report.has_bhi_control();
        if bhi_dis_s {
            host |= BHI_DIS_S;
        }
        let l1d_flush = match wish.l1d_flush {
            Some(wished) => wished,
            None => report.l1tf(),
        } && report.has_7(Leaf7Edx::L1D_FLUSH);
        let verw = match wish.md_clear {
            Some(wished) => wished,
            None => report.buffers() || report.tsa(),
        } && report.verw_clears();
        let ibpb_on_exit =
            wish.ibpb_entry.unwrap_or(needs_ibpb_on_exit(report)) && report.has_ibpb();
        let automatic_is_enough = report.has_automatic_ibrs() || report.vendor == Vendor::Other;
        let div = wish.div_scrub.unwrap_or(report.zen1());
        let types_kept = !(ibpb_on_exit && report.ibpb_forgets_types());
        Self {
            host: report.has_spec_ctrl().then_some(host),
            rewrite: host & IBRS != 0 && !report.has_lasting_ibrs(),
            virt_ssbd: !report.has_ssbd() && report.has_ext8(Ext8Ebx::VIRT_SSBD),
            automatic_ibrs: automatic,
            ibpb: wish.ibpb.unwrap_or(true) && report.has_ibpb(),
            ibpb_on_exit,
            ibpb_on_exit_of_dom0: wish.ibpb_entry == Some(true),
            rsb: wish
                .rsb
                .unwrap_or(!automatic_is_enough || report.ibpb_keeps_returns()),
            verw,
            l1d_flush,
            div,
            errata: Errata::decide(report),
            offer: offer(report, wish),
            open: match report.emulated {
                true => Open::default(),
                false => Open {
                    bti: report.vendor != Vendor::Other && !ibrs && !ibpb_on_exit,
                    btc: report.btc() && types_kept,
                    srso: report.srso() && types_kept && !report.has_spec_reduce(),
                    bhi: report.bhi() && !bhi_dis_s,
                    its: report.its(),
                    l1tf: report.l1tf() && !l1d_flush,
                    mds: report.buffers() && !verw,
                    tsa: report.tsa() && !verw,
                    gds: report.gds() && !report.has_gds_control(),
                    div: report.zen1() && (!div || report.smt),
                },
            },
        }
    }
}

/// AMD's CPUs that may take a RET for another kind of branch, with targets that a guest trained:
/// nothing else keeps the hypervisor's first RET after an exit from it.
fn needs_ibpb_on_exit(report: &Report) -> bool {
    let srso = report.srso() && !report.has_spec_reduce() && report.ibpb_forgets_types();
    report.btc() || srso
}

/// The features for guests: those that the CPU has, as long as their values are switched.
fn offer(report: &Report, wish: &Options) -> Offer {
    // Facts about the CPU that make a guest's own measures unnecessary, and the flush that we do
    // for it.
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
        | ArchCaps::RFDS_CLEAR
        | ArchCaps::ITS_NO;
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
            (host & BHI_DIS_S != 0, "BHI_DIS_S"),
            (self.rsb, "RSB overwritten at exit"),
            (self.ibpb_on_exit, "IBPB at exit"),
            (self.ibpb, "IBPB between vcpus"),
            (self.l1d_flush, "L1D flushed at entry"),
            (self.verw, "buffers cleared at entry"),
            (self.div, "divider cleared at entry"),
            (
                self.host.is_some() && self.offer.guests_switch(),
                "guests have SPEC_CTRL",
            ),
            (self.virt_ssbd, "guests have VIRT_SPEC_CTRL"),
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
