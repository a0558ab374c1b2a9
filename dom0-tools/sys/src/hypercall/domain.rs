//! Domains as such: create, destroy, pause, limits, information (xen/domctl.h).

use bytemuck::Zeroable;
use guest_pv_abi as abi;

use super::{CreateDomain, DomainInfo, ShutdownReason, nr};
use crate::{Errno, Privcmd, Result};

impl Privcmd {
    /// Creates a domain, paused; `domain` 0 lets the hypervisor choose its number.
    pub fn create_domain(&self, domain: u16, want: &CreateDomain) -> Result<u16> {
        self.domctl(abi::XEN_DOMCTL_CREATEDOMAIN, domain, want)
            .map(|(domain, _)| domain)
    }

    /// Destroys a domain. Returns when its memory is given up, which takes several calls.
    pub fn destroy_domain(&self, domain: u16) -> Result<()> {
        loop {
            match self.domctl(abi::XEN_DOMCTL_DESTROYDOMAIN, domain, &0u64) {
                Err(Errno::AGAIN | Errno::INTR) => rustix::thread::sched_yield(),
                other => return other.map(drop),
            }
        }
    }

    pub fn pause_domain(&self, domain: u16) -> Result<()> {
        self.domctl(abi::XEN_DOMCTL_PAUSEDOMAIN, domain, &0u64)
            .map(drop)
    }

    pub fn unpause_domain(&self, domain: u16) -> Result<()> {
        self.domctl(abi::XEN_DOMCTL_UNPAUSEDOMAIN, domain, &0u64)
            .map(drop)
    }

    /// The information about one domain; ESRCH if it does not exist.
    pub fn domain_info(&self, domain: u16) -> Result<DomainInfo> {
        // The hypervisor returns the next higher domain if this one does not exist.
        let (_, info): (_, DomainInfo) =
            self.domctl(abi::XEN_DOMCTL_GETDOMAININFO, domain, &DomainInfo::zeroed())?;
        if info.domain == domain {
            Ok(info)
        } else {
            Err(Errno::SRCH)
        }
    }

    /// Limits the domain's memory.
    pub fn set_max_mem(&self, domain: u16, kib: u64) -> Result<()> {
        self.domctl(abi::XEN_DOMCTL_MAX_MEM, domain, &kib).map(drop)
    }

    /// Changes the domain's UUID.
    pub fn set_handle(&self, domain: u16, handle: [u8; 16]) -> Result<()> {
        self.domctl(abi::XEN_DOMCTL_SETDOMAINHANDLE, domain, &handle)
            .map(drop)
    }

    /// The guest's wall clock less UTC.
    pub fn set_time_offset(&self, domain: u16, seconds: i64) -> Result<()> {
        self.domctl(abi::XEN_DOMCTL_SETTIMEOFFSET, domain, &seconds)
            .map(drop)
    }

    /// Lets a domain that shut down for suspend go on.
    pub fn resume_domain(&self, domain: u16) -> Result<()> {
        self.domctl(abi::XEN_DOMCTL_RESUMEDOMAIN, domain, &0u64)
            .map(drop)
    }

    /// Sends a trigger (`XEN_DOMCTL_SENDTRIGGER_*`: 0 NMI, 1 reset, 2 INIT, 3 power, 4 sleep).
    pub fn send_trigger(&self, domain: u16, trigger: u32, vcpu: u32) -> Result<()> {
        self.domctl(
            abi::XEN_DOMCTL_SENDTRIGGER,
            domain,
            &abi::DomctlSendTrigger { trigger, vcpu },
        )
        .map(drop)
    }

    /// Domain `domain` may act for `target`.
    pub fn set_target(&self, domain: u16, target: u16) -> Result<()> {
        self.domctl(abi::XEN_DOMCTL_SET_TARGET, domain, &target)
            .map(drop)
    }

    /// Bytes of memory for the domain's second-level page tables.
    pub fn paging_mempool_size(&self, domain: u16) -> Result<u64> {
        self.domctl(abi::XEN_DOMCTL_GET_PAGING_MEMPOOL_SIZE, domain, &0u64)
            .map(|(_, bytes)| bytes)
    }

    pub fn set_paging_mempool_size(&self, domain: u16, bytes: u64) -> Result<()> {
        loop {
            match self.domctl(abi::XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE, domain, &bytes) {
                Err(Errno::AGAIN | Errno::INTR) => rustix::thread::sched_yield(),
                other => return other.map(drop),
            }
        }
    }

    /// Marks a domain as shut down for `reason`, whatever it does.
    pub fn remote_shutdown(&self, domain: u16, reason: ShutdownReason) -> Result<()> {
        let arg = abi::SchedRemoteShutdown {
            domain_id: domain,
            _pad: 0,
            reason: reason.code().into(),
        };
        self.structured(nr::SCHED_OP, abi::SCHEDOP_REMOTE_SHUTDOWN.into(), &arg)
            .map(drop)
    }
}
