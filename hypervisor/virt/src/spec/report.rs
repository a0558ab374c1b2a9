//! What a CPU says about its own speculation.

use bitflags::bitflags;

use super::MSR_ARCH_CAPABILITIES;
use crate::policy::features::{Ext8Ebx, Ext21Eax, Leaf7Edx};
use crate::x86::CpuidSource;

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
        const GDS_NO = 1 << 26;
        const RFDS_NO = 1 << 27;
        const RFDS_CLEAR = 1 << 28;
    }
}

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
    pub leaf7: u32,
    pub ext8: u32,
    pub ext21: u32,
    pub arch: ArchCaps,
}

impl Report {
    /// `rdmsr` is called for ARCH_CAPABILITIES where that exists.
    pub fn read(cpuid: &impl CpuidSource, rdmsr: &mut dyn FnMut(u32) -> u64) -> Self {
        let name = cpuid.cpuid(0, 0);
        let vendor = match &[name.ebx, name.edx, name.ecx]
            .map(u32::to_le_bytes)
            .concat()[..]
        {
            b"GenuineIntel" => Vendor::Intel,
            b"AuthenticAMD" | b"HygonGenuine" => Vendor::Amd,
            _ => Vendor::Other,
        };
        let signature = cpuid.cpuid(1, 0).eax;
        let family = match signature >> 8 & 0xf {
            0xf => 0xf + (signature >> 20 & 0xff),
            family => family,
        };
        let extended = cpuid.cpuid(0x8000_0000, 0).eax;
        let leaf7 = if name.eax >= 7 {
            cpuid.cpuid(7, 0).edx
        } else {
            0
        };
        let has_arch = leaf7 & Leaf7Edx::ARCH_CAPS.bits() != 0;
        Self {
            vendor,
            family,
            leaf7,
            ext8: if extended >= 0x8000_0008 {
                cpuid.cpuid(0x8000_0008, 0).ebx
            } else {
                0
            },
            ext21: if extended >= 0x8000_0021 {
                cpuid.cpuid(0x8000_0021, 0).eax
            } else {
                0
            },
            arch: ArchCaps::from_bits_truncate(if has_arch {
                rdmsr(MSR_ARCH_CAPABILITIES)
            } else {
                0
            }),
        }
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
}
