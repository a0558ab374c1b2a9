//! The report of a CPU on its own speculation.

use core::ops::RangeInclusive;

use bitflags::bitflags;

use super::{MSR_ARCH_CAPABILITIES, MSR_PRED_CMD};
use crate::features::{Ext8Ebx, Ext21Eax, Leaf7Edx};
use crate::x86::{CpuIdReader, CpuIdResult, NO_LEAF};

bitflags! {
    /// IA32_ARCH_CAPABILITIES.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct ArchCaps: u64 {
        const RDCL_NO = 1;
        const IBRS_ALL = 1 << 1;
        const RSBA = 1 << 2;
        /// A hypervisor below us flushes the first-level cache.
        const SKIP_L1DFL = 1 << 3;
        const SSB_NO = 1 << 4;
        const MDS_NO = 1 << 5;
        const IF_PSCHANGE_MC_NO = 1 << 6;
        const TAA_NO = 1 << 8;
        const SBDR_SSDP_NO = 1 << 13;
        const FBSDP_NO = 1 << 14;
        const PSDP_NO = 1 << 15;
        /// VERW clears fill buffers although MDS_NO is set.
        const FB_CLEAR = 1 << 17;
        const RRSBA = 1 << 19;
        const BHI_NO = 1 << 20;
        const PBRSB_NO = 1 << 24;
        const GDS_CTRL = 1 << 25;
        const GDS_NO = 1 << 26;
        const RFDS_NO = 1 << 27;
        const RFDS_CLEAR = 1 << 28;
        const ITS_NO = 1 << 62;
    }
}

/// Leaf 7, subleaf 2, EDX: SPEC_CTRL.BHI_DIS_S.
pub(super) const BHI_CTRL: u32 = 1 << 4;
/// Leaf 7 EBX.
const HLE: u32 = 1 << 4;
/// Leaf 1 ECX.
const AVX: u32 = 1 << 28;
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 0x80000021 EAX, of which guests see nothing.
pub(super) const VERW_CLEAR: u32 = 1 << 5;
const IBPB_BRTYPE: u32 = 1 << 28;
const SRSO_MSR_FIX: u32 = 1 << 31;
/// Leaf 0x80000021 ECX.
const TSA_NO: u32 = 3 << 1;
/// PRED_CMD: forget all but the types of branches. With it came the microcode that forgets types by
/// IBPB.
const SBPB: u64 = 1 << 7;
const MSR_AMD_PATCH_LEVEL: u32 = 0x8b;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Vendor {
    Intel,
    /// Hygon too.
    Amd,
    #[default]
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    pub vendor: Vendor,
    pub family: u32,
    pub model: u32,
    pub stepping: u32,
    /// AMD's PATCH_LEVEL.
    pub microcode: u32,
    /// A hypervisor is below us: chicken bits are its business, and model and microcode are what it
    /// tells.
    pub virtualised: bool,
    /// QEMU's TCG: nothing is speculated.
    pub emulated: bool,
    /// Two threads of a core are on.
    pub smt: bool,
    pub avx: bool,
    pub hle: bool,
    pub leaf7: u32,
    pub leaf7_2: u32,
    pub ext8: u32,
    pub ext21: u32,
    pub ext21_ecx: u32,
    pub arch: ArchCaps,
}

impl Report {
    /// `rdmsr` is called for ARCH_CAPABILITIES and PATCH_LEVEL where those exist.
    pub fn read(cpuid: &impl CpuIdReader, rdmsr: &mut dyn FnMut(u32) -> u64) -> Self {
        let name = cpuid.cpuid2(0, 0);
        let vendor = match &text([name.ebx, name.edx, name.ecx]) {
            b"GenuineIntel" => Vendor::Intel,
            b"AuthenticAMD" | b"HygonGenuine" => Vendor::Amd,
            _ => Vendor::Other,
        };
        let one = cpuid.cpuid2(1, 0);
        let virtualised = one.ecx & HYPERVISOR != 0;
        let (family, model) = signature(one.eax);
        let extended = cpuid.cpuid2(0x8000_0000, 0).eax;
        let at_most = |most: u32, leaf: u32, subleaf: u32| match most >= leaf {
            true => cpuid.cpuid2(leaf, subleaf),
            false => NO_LEAF,
        };
        let seven = at_most(name.eax, 7, 0);
        let has_arch = seven.edx & Leaf7Edx::ARCH_CAPS.bits() != 0;
        let ext21 = at_most(extended, 0x8000_0021, 0);
        Self {
            vendor,
            family,
            model,
            stepping: one.eax & 0xf,
            microcode: match vendor {
                Vendor::Amd => rdmsr(MSR_AMD_PATCH_LEVEL) as u32,
                _ => 0,
            },
            virtualised,
            emulated: virtualised && is_tcg(&cpuid.cpuid2(0x4000_0000, 0)),
            // Threads of a core: EBX of the first level that leaf 0xb has; AMD has them in leaf
            // 0x8000001e.
            smt: match vendor {
                Vendor::Amd => at_most(extended, 0x8000_001e, 0).ebx >> 8 & 0xff != 0,
                _ => at_most(name.eax, 0xb, 0).ebx & 0xffff > 1,
            },
            avx: one.ecx & AVX != 0,
            hle: seven.ebx & HLE != 0,
            leaf7: seven.edx,
            leaf7_2: match seven.eax >= 2 {
                true => cpuid.cpuid2(7, 2).edx,
                false => 0,
            },
            ext8: at_most(extended, 0x8000_0008, 0).ebx,
            ext21: ext21.eax,
            ext21_ecx: ext21.ecx,
            arch: ArchCaps::from_bits_truncate(if has_arch {
                rdmsr(MSR_ARCH_CAPABILITIES)
            } else {
                0
            }),
        }
    }

    /// Finds what AMD's Zen 3 and 4 do not report but in newer microcode: whether IBPB forgets
    /// types of branches. They do if they take PRED_CMD.SBPB. `write` returns whether the CPU takes
    /// the value.
    pub fn probe(&mut self, write: &mut dyn FnMut(u32, u64) -> bool) {
        let unsaid = self.is_amd(0x19..=0x19) && !self.virtualised && self.ext21 & IBPB_BRTYPE == 0;
        if unsaid && self.has_ibpb() && write(MSR_PRED_CMD, SBPB) {
            self.ext21 |= IBPB_BRTYPE;
        }
    }

    pub(super) fn is_amd(&self, families: RangeInclusive<u32>) -> bool {
        self.vendor == Vendor::Amd && families.contains(&self.family)
    }

    fn is_intel(&self, models: &[u32]) -> bool {
        self.vendor == Vendor::Intel && self.family == 6 && models.contains(&self.model)
    }

    /// AMD's first Zen, Hygon's too.
    pub(super) fn zen1(&self) -> bool {
        self.is_amd(0x17..=0x17) && matches!(self.model, 0..=0x2f | 0x50..=0x5f)
            || self.is_amd(0x18..=0x18) && !self.has_stibp()
    }

    pub(super) fn zen2(&self) -> bool {
        self.is_amd(0x17..=0x17) && !self.zen1()
    }

    pub(super) fn zen4(&self) -> bool {
        self.is_amd(0x19..=0x19) && self.has_automatic_ibrs()
    }

    pub(super) fn has_7(&self, feature: Leaf7Edx) -> bool {
        self.leaf7 & feature.bits() != 0
    }

    pub(super) fn has_ext8(&self, feature: Ext8Ebx) -> bool {
        self.ext8 & feature.bits() != 0
    }

    pub(super) fn has_ext21(&self, feature: Ext21Eax) -> bool {
        self.ext21 & feature.bits() != 0
    }

    /// SPEC_CTRL exists: on Intel with IBRS, on AMD with any of its bits.
    pub(super) fn has_spec_ctrl(&self) -> bool {
        self.has_7(Leaf7Edx::IBRSB)
            || self.ext8 & (Ext8Ebx::IBRS | Ext8Ebx::STIBP | Ext8Ebx::SSBD).bits() != 0
    }

    pub(super) fn has_ibrs(&self) -> bool {
        self.has_7(Leaf7Edx::IBRSB) || self.has_ext8(Ext8Ebx::IBRS)
    }

    pub(super) fn has_ibpb(&self) -> bool {
        self.has_7(Leaf7Edx::IBRSB) || self.has_ext8(Ext8Ebx::IBPB)
    }

    pub(super) fn has_stibp(&self) -> bool {
        self.has_7(Leaf7Edx::STIBP) || self.has_ext8(Ext8Ebx::STIBP)
    }

    pub(super) fn has_ssbd(&self) -> bool {
        self.has_7(Leaf7Edx::SSBD) || self.has_ext8(Ext8Ebx::SSBD)
    }

    pub(super) fn has_psfd(&self) -> bool {
        self.has_ext8(Ext8Ebx::PSFD)
    }

    /// IBRS that, once set, holds in the hypervisor without being written at each exit.
    pub(super) fn has_lasting_ibrs(&self) -> bool {
        self.arch.contains(ArchCaps::IBRS_ALL) || self.has_ext8(Ext8Ebx::IBRS_ALWAYS)
    }

    pub(super) fn has_automatic_ibrs(&self) -> bool {
        self.has_ext21(Ext21Eax::AUTOMATIC_IBRS)
    }

    /// A guest may read what is left in the first-level cache (CVE-2018-3646).
    pub(super) fn l1tf(&self) -> bool {
        self.vendor == Vendor::Intel
            && !self
                .arch
                .intersects(ArchCaps::RDCL_NO | ArchCaps::SKIP_L1DFL)
    }

    /// A guest may read what is left in fill, store or register file buffers, and VERW clears it.
    pub(super) fn buffers(&self) -> bool {
        let all_no = ArchCaps::MDS_NO | ArchCaps::TAA_NO;
        let stale_mmio =
            self.arch.contains(ArchCaps::FB_CLEAR) && !self.arch.contains(ArchCaps::FBSDP_NO);
        let registers =
            self.arch.contains(ArchCaps::RFDS_CLEAR) && !self.arch.contains(ArchCaps::RFDS_NO);
        self.vendor == Vendor::Intel && (!self.arch.contains(all_no) || stale_mmio || registers)
    }

    /// Transitive scheduler attacks (AMD-SB-7029, XSA-471): Zen 3 and 4. VERW clears what they
    /// read.
    pub(super) fn tsa(&self) -> bool {
        // Others are not vulnerable, though they may not say so.
        self.is_amd(0x19..=0x19) && self.ext21_ecx & TSA_NO != TSA_NO
    }

    /// VERW clears buffers: for the vendor's own vulnerabilities.
    pub(super) fn verw_clears(&self) -> bool {
        match self.vendor {
            Vendor::Intel => {
                self.has_7(Leaf7Edx::MD_CLEAR)
                    || self
                        .arch
                        .intersects(ArchCaps::FB_CLEAR | ArchCaps::RFDS_CLEAR)
            }
            Vendor::Amd => self.ext21 & VERW_CLEAR != 0 || self.tsa_microcode(),
            Vendor::Other => false,
        }
    }

    /// The microcode that makes VERW clear, which does not say so in CPUID (AMD-SB-7029): by
    /// family, model and stepping, the first level that has it.
    fn tsa_microcode(&self) -> bool {
        const FIRST: [u32; 16] = [
            0x0a00_11d7,
            0x0a00_123b,
            0x0a00_820d,
            0x0a10_114c,
            0x0a10_124c,
            0x0a10_8109,
            0x0a20_102e,
            0x0a20_1211,
            0x0a40_4108,
            0x0a50_0012,
            0x0a60_120a,
            0x0a70_4108,
            0x0a70_5208,
            0x0a70_8008,
            0x0a70_c008,
            0x0aa0_0216,
        ];
        let same = |first: &&u32| **first >> 8 == self.microcode >> 8;
        let first = FIRST.iter().find(same);
        !self.virtualised && first.is_some_and(|first| self.microcode >= *first)
    }

    /// Branch type confusion, Retbleed (XSA-407): a RET may be predicted as an indirect branch.
    pub(super) fn btc(&self) -> bool {
        // Zen 3 is not vulnerable, but older microcode of its does not say so.
        self.is_amd(0x15..=0x18) && !self.has_ext8(Ext8Ebx::BTC_NO)
    }

    /// Speculative return stack overflow, Inception (XSA-434).
    pub(super) fn srso(&self) -> bool {
        let one_thread = self.is_amd(0x17..=0x18) && !self.smt && !self.virtualised;
        self.is_amd(0x17..=u32::MAX) && !self.has_ext21(Ext21Eax::SRSO_NO) && !one_thread
    }

    /// BP_CFG.BP_SPEC_REDUCE keeps guests from it.
    pub(super) fn has_spec_reduce(&self) -> bool {
        self.vendor == Vendor::Amd && self.ext21 & SRSO_MSR_FIX != 0 && !self.virtualised
    }

    /// IBPB forgets the types of branches too: what BTC and SRSO need.
    pub(super) fn ibpb_forgets_types(&self) -> bool {
        self.has_ibpb() && (self.is_amd(0..=0x18) || self.ext21 & IBPB_BRTYPE != 0)
    }

    /// IBPB leaves the return predictor alone (XSA-422).
    pub(super) fn ibpb_keeps_returns(&self) -> bool {
        self.vendor == Vendor::Amd && self.has_ibpb() && !self.has_ext8(Ext8Ebx::IBPB_RET)
    }

    /// Branch history injection (XSA-456): CPUs with enhanced IBRS.
    pub(super) fn bhi(&self) -> bool {
        self.vendor == Vendor::Intel
            && self.arch.contains(ArchCaps::IBRS_ALL)
            && !self.arch.contains(ArchCaps::BHI_NO)
    }

    pub(super) fn has_bhi_control(&self) -> bool {
        self.leaf7_2 & BHI_CTRL != 0
    }

    /// Indirect target selection (XSA-469) across guest and host: cores of Skylake's kind with
    /// enhanced IBRS; within the host: the coves before Alder Lake.
    pub(super) fn its(&self) -> bool {
        const CORES: [u32; 11] = [
            0x55, 0x8e, 0x9e, 0xa5, 0xa6, 0x6a, 0x6c, 0x7e, 0x8c, 0x8d, 0xa7,
        ];
        self.is_intel(&CORES)
            && self.arch.contains(ArchCaps::IBRS_ALL)
            && !self.arch.contains(ArchCaps::ITS_NO)
            && !self.has_bhi_control()
    }

    /// Gather data sampling (XSA-435), Skylake to before Alder Lake.
    pub(super) fn gds(&self) -> bool {
        const CORES: [u32; 11] = [
            0x55, 0x6a, 0x6c, 0x7e, 0x8c, 0x8d, 0x8e, 0x9e, 0xa5, 0xa6, 0xa7,
        ];
        self.avx && self.is_intel(&CORES) && !self.arch.contains(ArchCaps::GDS_NO)
    }

    pub(super) fn has_gds_control(&self) -> bool {
        self.arch.contains(ArchCaps::GDS_CTRL)
    }

    /// A locked instruction with an HLE prefix in the 4 MiB from 1 GiB on stops the machine
    /// (XSA-282; errata SKL167, SKZ63, SKW159, KBW114, CFW103).
    pub(super) fn hle_locks_up(&self) -> bool {
        self.is_intel(&[0x4e, 0x5e, 0x55, 0x8e, 0x9e]) && self.hle && !self.virtualised
    }
}

fn signature(eax: u32) -> (u32, u32) {
    let (family, model) = (eax >> 8 & 0xf, eax >> 4 & 0xf);
    let extended = model | (eax >> 12 & 0xf0);
    match family {
        0xf => (0xf + (eax >> 20 & 0xff), extended),
        6 => (family, extended),
        _ => (family, model),
    }
}

fn is_tcg(leaf: &CpuIdResult) -> bool {
    &text([leaf.ebx, leaf.ecx, leaf.edx]) == b"TCGTCGTCGTCG"
}

/// Without the heap: a report is read before there is one.
fn text(words: [u32; 3]) -> [u8; 12] {
    core::array::from_fn(|at| words[at / 4].to_le_bytes()[at % 4])
}
