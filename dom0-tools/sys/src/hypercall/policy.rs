//! The CPU as a domain sees it: CPUID leaves, MSRs, the clock (xen/domctl.h).

use core::fmt;

use bytemuck::Zeroable;
use guest_pv_abi as abi;

use super::{CpuidLeaf, MsrEntry, TscInfo};
use crate::{Errno, Privcmd, Result};

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
        let arg = abi::DomctlCpuPolicy {
            nr_leaves: MOST as u32,
            nr_msrs: MOST as u32,
            leaves: leaves.addr(),
            msrs: msrs.addr(),
            err_leaf: NONE,
            err_subleaf: NONE,
            err_msr: NONE,
            _pad: 0,
        };
        let (_, got) = self.domctl(abi::XEN_DOMCTL_GET_CPU_POLICY, domain, &arg)?;
        let count = |n: u32| (n as usize).min(MOST);
        Ok((
            super::items(&leaves, count(got.nr_leaves))?,
            super::items(&msrs, count(got.nr_msrs))?,
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
        let arg = abi::DomctlCpuPolicy {
            nr_leaves: leaves.len() as u32,
            nr_msrs: msrs.len() as u32,
            leaves: leaf_buffer.addr(),
            msrs: msr_buffer.addr(),
            err_leaf: NONE,
            err_subleaf: NONE,
            err_msr: NONE,
            _pad: 0,
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
        self.domctl(abi::XEN_DOMCTL_GETTSCINFO, domain, &TscInfo::zeroed())
            .map(|(_, info)| info)
    }

    pub fn set_tsc_info(&self, domain: u16, info: TscInfo) -> Result<()> {
        self.domctl(abi::XEN_DOMCTL_SETTSCINFO, domain, &info)
            .map(drop)
    }
}
