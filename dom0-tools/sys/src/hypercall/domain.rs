//! Domains as such: create, destroy, pause, limits, information (xen/domctl.h).

use guest_pv_abi as abi;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::nr;
use crate::{Errno, Privcmd, Result};

/// Flags of createdomain (`XEN_DOMCTL_CDF_*`).
pub mod cdf {
    pub const HVM: u32 = 1 << 0;
    pub const HAP: u32 = 1 << 1;
    pub const S3_INTEGRITY: u32 = 1 << 2;
    pub const OOS_OFF: u32 = 1 << 3;
    pub const XS_DOMAIN: u32 = 1 << 4;
    pub const IOMMU: u32 = 1 << 5;
    pub const NESTED_VIRT: u32 = 1 << 6;
    pub const VPMU: u32 = 1 << 7;
}

/// `xen_domctl_createdomain` with x86's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct CreateDomain {
    pub ssidref: u32,
    /// The domain's UUID.
    pub handle: [u8; 16],
    /// Of [`cdf`].
    pub flags: u32,
    pub iommu_opts: u32,
    pub max_vcpus: u32,
    /// The highest port, -1 for no limit.
    pub max_evtchn_port: u32,
    /// -1 takes the hypervisor's default.
    pub max_grant_frames: i32,
    pub max_maptrack_frames: i32,
    /// The highest version of grant tables.
    pub grant_opts: u32,
    pub vmtrace_size: u32,
    pub cpupool_id: u32,
    /// Of `XEN_X86_EMU_*`: bit 0 is the local APIC, all that a PVH guest has.
    pub emulation_flags: u32,
    pub misc_flags: u32,
}

impl CreateDomain {
    /// A PVH guest with the usual limits.
    pub const fn pvh(handle: [u8; 16], max_vcpus: u32) -> Self {
        Self {
            ssidref: 0,
            handle,
            flags: cdf::HVM | cdf::HAP,
            iommu_opts: 0,
            max_vcpus,
            max_evtchn_port: 1023,
            max_grant_frames: -1,
            max_maptrack_frames: -1,
            grant_opts: 1,
            vmtrace_size: 0,
            cpupool_id: 0,
            emulation_flags: 1,
            misc_flags: 0,
        }
    }
}

/// `xen_domctl_getdomaininfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct DomainInfo {
    pub domain: u16,
    pad1: u16,
    pub flags: u32,
    pub tot_pages: u64,
    pub max_pages: u64,
    pub outstanding_pages: u64,
    pub shr_pages: u64,
    pub paged_pages: u64,
    pub shared_info_frame: u64,
    /// Nanoseconds, all vcpus.
    pub cpu_time: u64,
    pub nr_online_vcpus: u32,
    pub max_vcpu_id: u32,
    pub ssidref: u32,
    pub handle: [u8; 16],
    pub cpupool: u32,
    pub gpaddr_bits: u8,
    pad2: [u8; 7],
    pub emulation_flags: u32,
    pub misc_flags: u32,
}

/// Why a domain shut down (`SHUTDOWN_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownReason {
    Poweroff,
    Reboot,
    Suspend,
    Crash,
    Watchdog,
    SoftReset,
    Other(u8),
}

impl ShutdownReason {
    pub const fn code(self) -> u8 {
        match self {
            Self::Poweroff => 0,
            Self::Reboot => 1,
            Self::Suspend => 2,
            Self::Crash => 3,
            Self::Watchdog => 4,
            Self::SoftReset => 5,
            Self::Other(code) => code,
        }
    }

    pub const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Poweroff,
            1 => Self::Reboot,
            2 => Self::Suspend,
            3 => Self::Crash,
            4 => Self::Watchdog,
            5 => Self::SoftReset,
            other => Self::Other(other),
        }
    }
}

impl DomainInfo {
    const fn flag(&self, bit: u32) -> bool {
        self.flags & (1 << bit) != 0
    }

    pub const fn dying(&self) -> bool {
        self.flag(0)
    }

    pub const fn hvm(&self) -> bool {
        self.flag(1)
    }

    pub const fn paused(&self) -> bool {
        self.flag(3)
    }

    pub const fn blocked(&self) -> bool {
        self.flag(4)
    }

    pub const fn running(&self) -> bool {
        self.flag(5)
    }

    /// The reason, once it has shut down.
    pub const fn shutdown(&self) -> Option<ShutdownReason> {
        if self.flag(2) {
            Some(ShutdownReason::from_code((self.flags >> 16) as u8))
        } else {
            None
        }
    }
}

#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct RemoteShutdown {
    pub(super) domain: u16,
    pub(super) pad: u16,
    pub(super) reason: u32,
}

#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Trigger {
    pub(super) trigger: u32,
    pub(super) vcpu: u32,
}

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

    /// What the hypervisor knows of exactly this domain; ESRCH if there is none.
    pub fn domain_info(&self, domain: u16) -> Result<DomainInfo> {
        // The hypervisor answers with the next higher domain when this one is not there.
        let (_, info): (_, DomainInfo) = self.domctl(
            abi::XEN_DOMCTL_GETDOMAININFO,
            domain,
            &DomainInfo::new_zeroed(),
        )?;
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
            &Trigger { trigger, vcpu },
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
        let arg = RemoteShutdown {
            domain,
            pad: 0,
            reason: reason.code().into(),
        };
        self.structured(nr::SCHED_OP, abi::SCHEDOP_REMOTE_SHUTDOWN.into(), &arg)
            .map(drop)
    }
}

const _: () = assert!(size_of::<DomainInfo>() == 112 && size_of::<CreateDomain>() == 64);
