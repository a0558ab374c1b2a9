//! Errata and leaks that a bit of a model-specific register mends: by family, model and microcode,
//! which bits. All bits of one register are written at once, as some are shared by the threads of a
//! core, which both write.
//!
//! Sources: AMD's revision guides (erratum numbers) and bulletins (AMD-SB), "Technical guidance for
//! mitigating branch type confusion"; Intel's guidance on gather data sampling.

use core::fmt;

use oxen_types::Maddr;

use super::Report;
use crate::features::Ext21Eax;

const LS_CFG: u32 = 0xc001_1020;
const DC_CFG: u32 = 0xc001_1022;
const FP_CFG: u32 = 0xc001_1028;
const DE_CFG: u32 = 0xc001_1029;
const BP_CFG: u32 = 0xc001_102e;
const DE_CFG2: u32 = 0xc001_10e3;
const INT_PENDING: u32 = 0xc001_0055;
const MCU_OPT_CTRL: u32 = 0x123;

/// Bits of one register to set and to clear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fix {
    pub(super) msr: u32,
    pub(super) set: u64,
    pub(super) clear: u64,
}

impl Fix {
    /// The value that the register needs, if it differs from `value`.
    pub(super) fn applied(&self, value: u64) -> Option<u64> {
        let new = value & !self.clear | self.set;
        (new != value).then_some(new)
    }
}

const FIXES: usize = 8;

/// The errata of this machine's CPUs: the registers to set, and the names for the log.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Errata {
    fixes: [Option<Fix>; FIXES],
    /// A hypervisor below us may refuse.
    pub(super) may_fail: bool,
    names: [Option<&'static str>; FIXES],
}

impl Errata {
    pub(super) fn decide(report: &Report) -> Self {
        let mut out = Self {
            may_fail: report.virtualised,
            ..Self::default()
        };
        let lfence = report.is_amd(0x10..=u32::MAX)
            && report.family != 0x11
            && !report.has_ext21(Ext21Eax::LFENCE_DISPATCH);
        out.set(lfence, DE_CFG, 1 << 1, "LFENCE serialises");
        if !report.virtualised {
            out.list(report);
        }
        out
    }

    fn list(&mut self, report: &Report) {
        let amd = |families| report.is_amd(families);
        // A DIV may give a wrong result (erratum 665).
        self.set(amd(0x12..=0x12), DE_CFG, 1 << 31, "erratum 665");
        let leaks = report.zen2() && !has_zenbleed_microcode(report.microcode);
        self.set(leaks, DE_CFG, 1 << 9, "Zenbleed");
        // Floating point divider state sampling (AMD-SB-7053, XSA-488).
        let divides = amd(0x17..=0x17) && report.zen1();
        self.set(divides, FP_CFG, 1 << 9, "FP-DSS");
        // Predictions on what is no branch at all.
        self.set(report.zen2(), DE_CFG2, 1 << 1, "BTC of non-branches");
        // The cache of decoded instructions is corrupted (AMD-SB-7052, XSA-490).
        self.set(report.zen2(), BP_CFG, 1 << 33, "op cache");
        // Wrong instruction bytes where a sibling's branches are not held apart.
        self.set(report.zen4(), BP_CFG, 1 << 5, "erratum 1485");
        let reduce = report.srso() && report.has_spec_reduce();
        self.set(reduce, BP_CFG, 1 << 4, "SRSO by BP_SPEC_REDUCE");
        // A locked access stops the machine (erratum 793, XSA-82).
        let jaguar = amd(0x16..=0x16) && report.model <= 0xf;
        self.set(jaguar, LS_CFG, 1 << 15, "erratum 793");
        // A guest's change of page sizes is a machine check of the host (erratum 383).
        self.set(amd(0x10..=0x10), DC_CFG, 1 << 47, "erratum 383");
        // In C1E the local APIC's timer stops: HLT would sleep too long.
        self.clear(amd(0xf..=0x11), INT_PENDING, 3 << 27, "no C1E");
        let gathers = report.gds() && report.has_gds_control();
        self.clear(gathers, MCU_OPT_CTRL, 1 << 4, "GDS by microcode");
    }

    fn set(&mut self, wanted: bool, msr: u32, bits: u64, name: &'static str) {
        self.add(
            wanted,
            Fix {
                msr,
                set: bits,
                clear: 0,
            },
            name,
        );
    }

    fn clear(&mut self, wanted: bool, msr: u32, bits: u64, name: &'static str) {
        self.add(
            wanted,
            Fix {
                msr,
                set: 0,
                clear: bits,
            },
            name,
        );
    }

    fn add(&mut self, wanted: bool, fix: Fix, name: &'static str) {
        if !wanted {
            return;
        }
        let place = self
            .fixes
            .iter_mut()
            .find(|slot| slot.is_none_or(|old| old.msr == fix.msr));
        if let Some(slot) = place {
            let old = slot.unwrap_or(Fix {
                set: 0,
                clear: 0,
                ..fix
            });
            *slot = Some(Fix {
                msr: fix.msr,
                set: old.set | fix.set,
                clear: old.clear | fix.clear,
            });
        }
        if let Some(slot) = self.names.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(name);
        }
    }

    pub(super) fn fixes(&self) -> impl Iterator<Item = Fix> {
        self.fixes.into_iter().flatten()
    }
}

impl fmt::Display for Errata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for name in self.names.iter().flatten() {
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

/// Is this level, or a later one of the same stepping, the microcode that mends Zenbleed (XSA-433)?
/// Levels of other steppings say nothing, so those get the bit. An older level must not pass for a
/// newer one (XSA-515).
fn has_zenbleed_microcode(level: u32) -> bool {
    const FIRST: [u32; 5] = [
        0x0830_107b,
        0x0860_010c,
        0x0860_8107,
        0x0870_1033,
        0x08a0_0009,
    ];
    let same_stepping = |first: &&u32| **first >> 8 == level >> 8;
    let first = FIRST.iter().find(same_stepping);
    first.is_some_and(|first| level >= *first)
}

/// RAM that nobody may use: start and length.
pub(super) fn bad_memory(report: &Report) -> Option<(Maddr, u64)> {
    const AT: Maddr = Maddr::new(1 << 30);
    report.hle_locks_up().then_some((AT, 4 << 20))
}
