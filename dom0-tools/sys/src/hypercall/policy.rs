//! What a domain sees of the CPU: CPUID leaves, MSRs, the clock (xen/domctl.h).

use core::fmt;

use guest_pv_abi as abi;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use crate::{Errno, Privcmd, Result};

/// `xen_cpuid_leaf_t`; a leaf without subleaves has `subleaf` [`CpuidLeaf::NO_SUBLEAF`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct CpuidLeaf {
    pub leaf: u32,
    pub subleaf: u32,
    pub a: u32,
    pub b: u32,
    pub c: u32,
    pub d: u32,
}

impl CpuidLeaf {
    pub const NO_SUBLEAF: u32 = u32::MAX;
}

/// `xen_msr_entry_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct MsrEntry {
    pub index: u32,
    pub flags: u32,
    pub value: u64,
}

/// `xen_domctl_tsc_info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct TscInfo {
    pub mode: u32,
    pub khz: u32,
    pub incarnation: u32,
    pub pad: u32,
    pub elapsed_nsec: u64,
}

#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Policy {
    pub(super) leaves: u32,
    pub(super) msrs: u32,
    pub(super) leaves_address: u64,
    pub(super) msrs_address: u64,
    pub(super) err_leaf: u32,
    pub(super) err_subleaf: u32,
    pub(super) err_msr: u32,
    pub(super) pad: u32,
}

/// Why a policy was refused, and the entry that was at fault where the hypervisor says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyError {
    pub errno: Errno,
    pub leaf: Option<(u32, u32)>,
    pub msr: Option<u32>,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the hypervisor refuses the CPU policy: {}", self.errno)?;
        if let Some((leaf, subleaf)) = self.leaf {
            write!(f, ", CPUID leaf {leaf:#x}.{subleaf:#x}")?;
        }
        if let Some(msr) = self.msr {
            write!(f, ", MSR {msr:#x}")?;
        }
        Ok(())
    }
}

impl core::error::Error for PolicyError {}

/// No policy has more entries than fit here.
const MOST: usize = 1024;
const NONE: u32 = u32::MAX;

impl Privcmd {
    pub fn cpu_policy(&self, domain: u16) -> Result<(Vec<CpuidLeaf>, Vec<MsrEntry>)> {
        let leaves = self.buffer(MOST * size_of::<CpuidLeaf>())?;
        let msrs = self.buffer(MOST * size_of::<MsrEntry>())?;
        let arg = Policy {
            leaves: MOST as u32,
            msrs: MOST as u32,
            leaves_address: leaves.addr(),
            msrs_address: msrs.addr(),
            err_leaf: NONE,
            err_subleaf: NONE,
            err_msr: NONE,
            pad: 0,
        };
        let (_, got) = self.domctl(abi::XEN_DOMCTL_GET_CPU_POLICY, domain, &arg)?;
        let count = |n: u32| (n as usize).min(MOST);
        Ok((
            super::items(&leaves, count(got.leaves))?,
            super::items(&msrs, count(got.msrs))?,
        ))
    }

    /// Sets the leaves and MSRs given; all others stay.
    pub fn set_cpu_policy(
        &self,
        domain: u16,
        leaves: &[CpuidLeaf],
        msrs: &[MsrEntry],
    ) -> Result<(), PolicyError> {
        let plain = |errno| PolicyError {
            errno,
            leaf: None,
            msr: None,
        };
        if leaves.len() > MOST || msrs.len() > MOST {
            return Err(plain(Errno::TOOBIG));
        }
        let leaf_buffer = self.buffer_of(leaves).map_err(plain)?;
        let msr_buffer = self.buffer_of(msrs).map_err(plain)?;
        let arg = Policy {
            leaves: leaves.len() as u32,
            msrs: msrs.len() as u32,
            leaves_address: leaf_buffer.addr(),
            msrs_address: msr_buffer.addr(),
            err_leaf: NONE,
            err_subleaf: NONE,
            err_msr: NONE,
            pad: 0,
        };
        let (result, answer) = self
            .domctl_always(abi::XEN_DOMCTL_SET_CPU_POLICY, domain, &arg)
            .map_err(plain)?;
        let Err(errno) = result else { return Ok(()) };
        let leaf = (answer.err_leaf != NONE).then_some((answer.err_leaf, answer.err_subleaf));
        Err(PolicyError {
            errno,
            leaf,
            msr: (answer.err_msr != NONE).then_some(answer.err_msr),
        })
    }

    pub fn tsc_info(&self, domain: u16) -> Result<TscInfo> {
        self.domctl(abi::XEN_DOMCTL_GETTSCINFO, domain, &TscInfo::new_zeroed())
            .map(|(_, info)| info)
    }

    pub fn set_tsc_info(&self, domain: u16, info: TscInfo) -> Result<()> {
        self.domctl(abi::XEN_DOMCTL_SETTSCINFO, domain, &info)
            .map(drop)
    }
}
