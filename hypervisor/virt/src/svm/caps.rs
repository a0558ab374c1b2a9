//! Which parts of AMD-V this machine has: CPUID 8000_000A (APM volume 3, E.4.9).

use bitflags::bitflags;
use oxen_types::Part;

use crate::error::VirtError;
use crate::x86::CpuIdReader;

bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct SvmFeatures: u32 {
        const NESTED_PAGING = 1;
        const LBR = 1 << 1;
        const LOCK = 1 << 2;
        const NEXT_RIP = 1 << 3;
        const TSC_RATE = 1 << 4;
        const CLEAN_BITS = 1 << 5;
        const FLUSH_BY_ASID = 1 << 6;
        const DECODE_ASSISTS = 1 << 7;
        const PAUSE_FILTER = 1 << 10;
        const PAUSE_THRESHOLD = 1 << 12;
        const AVIC = 1 << 13;
        const VMSAVE_VIRT = 1 << 15;
        const VGIF = 1 << 16;
    }
}

#[cfg(feature = "amd")]
type Built = oxen_types::Present;
#[cfg(not(feature = "amd"))]
type Built = oxen_types::Absent;

#[derive(Clone, Copy, Debug)]
pub(crate) struct SvmCaps {
    pub features: SvmFeatures,
    /// ASIDs 1 to this - 1 are for guests.
    pub asids: u32,
    /// RDTSCP or RDPID exist, so TSC_AUX does.
    pub tsc_aux: bool,
    /// Instructions of INVLPGB's family can be intercepted.
    pub invlpgb: bool,
    _built: Built,
}

impl SvmCaps {
    pub(crate) fn detect(cpuid: &impl CpuIdReader) -> Result<Self, VirtError> {
        let _built = Built::BUILT.ok_or(VirtError::NoSvm)?;
        let max = cpuid.cpuid2(0x8000_0000, 0).eax;
        if max < 0x8000_000a || cpuid.cpuid2(0x8000_0001, 0).ecx & (1 << 2) == 0 {
            return Err(VirtError::NoSvm);
        }
        let leaf = cpuid.cpuid2(0x8000_000a, 0);
        let features = SvmFeatures::from_bits_truncate(leaf.edx);
        if leaf.ebx < 2 {
            return Err(VirtError::NoAsids);
        }
        let rdtscp = cpuid.cpuid2(0x8000_0001, 0).edx & (1 << 27) != 0;
        let rdpid = cpuid.cpuid2(0, 0).eax >= 7 && cpuid.cpuid2(7, 0).ecx & (1 << 22) != 0;
        Ok(Self {
            features,
            asids: leaf.ebx,
            tsc_aux: rdtscp || rdpid,
            _built,
            invlpgb: max >= 0x8000_0008 && cpuid.cpuid2(0x8000_0008, 0).ebx & (1 << 3) != 0,
        })
    }

    /// A CPU without any optional feature.
    #[cfg(not(target_os = "none"))]
    pub(crate) fn for_tests() -> Self {
        Self {
            features: SvmFeatures::NESTED_PAGING,
            asids: 16,
            tsc_aux: true,
            invlpgb: false,
            _built: Built::BUILT.expect("the feature amd"),
        }
    }

    pub(crate) fn has(&self, feature: SvmFeatures) -> bool {
        self.features.contains(feature)
    }
}
