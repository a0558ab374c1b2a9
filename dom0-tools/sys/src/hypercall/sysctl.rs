//! The machine as a whole (xen/sysctl.h).

use guest_pv_abi as abi;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::{DomainInfo, items};
use crate::{Errno, Privcmd, Result};

/// `xen_sysctl_physinfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct PhysInfo {
    pub threads_per_core: u32,
    pub cores_per_socket: u32,
    pub nr_cpus: u32,
    pub max_cpu_id: u32,
    pub nr_nodes: u32,
    pub max_node_id: u32,
    pub cpu_khz: u32,
    /// `XEN_SYSCTL_PHYSCAP_*`.
    pub capabilities: u32,
    pub arch_capabilities: u32,
    pad: u32,
    pub total_pages: u64,
    pub free_pages: u64,
    pub scrub_pages: u64,
    pub outstanding_pages: u64,
    pub max_mfn: u64,
    pub hw_cap: [u32; 8],
}

/// `xen_sysctl_cputopo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct CpuTopology {
    pub core: u32,
    pub socket: u32,
    pub node: u32,
}

#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct ReadConsole {
    pub(super) clear: u8,
    pub(super) incremental: u8,
    pub(super) pad: [u8; 2],
    pub(super) index: u32,
    pub(super) address: u64,
    pub(super) count: u32,
    pub(super) pad2: u32,
}

#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct DomainList {
    pub(super) first: u16,
    pub(super) pad: u16,
    pub(super) max: u32,
    pub(super) address: u64,
    pub(super) count: u32,
    pub(super) pad2: u32,
}

/// The shape of debug_keys.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct AddressCount {
    pub(super) address: u64,
    pub(super) count: u32,
    pub(super) pad: u32,
}

/// The shape of getcpuinfo and cputopoinfo.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct CountAddress {
    pub(super) count: u32,
    pub(super) pad: u32,
    pub(super) address: u64,
    pub(super) answered: u32,
    pub(super) pad2: u32,
}

#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct AvailHeap {
    pub(super) min_bits: u32,
    pub(super) max_bits: u32,
    pub(super) node: i32,
    pub(super) pad: u32,
    pub(super) bytes: u64,
}

/// Domains asked for in one call.
const LIST: usize = 128;
/// The largest log ring that is read, and the most CPUs.
const LOG: usize = 1 << 20;
const CPUS: usize = 4096;

impl Privcmd {
    /// The hypervisor's log from `index` on (0 the first time) and the index to go on from.
    pub fn read_console(&self, index: u32, clear: bool) -> Result<(Vec<u8>, u32)> {
        let buffer = self.buffer(LOG)?;
        let arg = ReadConsole {
            clear: clear.into(),
            incremental: 1,
            pad: [0; 2],
            index,
            address: buffer.addr(),
            count: LOG as u32,
            pad2: 0,
        };
        let answer = self.sysctl(abi::XEN_SYSCTL_READCONSOLE, &arg)?;
        let mut log = vec![0; (answer.count as usize).min(LOG)];
        buffer.read(0, &mut log)?;
        Ok((log, answer.index))
    }

    pub fn physinfo(&self) -> Result<PhysInfo> {
        self.sysctl(abi::XEN_SYSCTL_PHYSINFO, &PhysInfo::new_zeroed())
    }

    /// The scheduler in use (`XEN_SCHEDULER_*`: 5 credit, 6 credit2, 9 null).
    pub fn scheduler(&self) -> Result<u32> {
        self.sysctl(abi::XEN_SYSCTL_SCHED_ID, &0u32)
    }

    /// All domains, in order of their numbers.
    pub fn domains(&self) -> Result<Vec<DomainInfo>> {
        let buffer = self.buffer(LIST * size_of::<DomainInfo>())?;
        let mut all: Vec<DomainInfo> = Vec::new();
        let mut first = 0u16;
        loop {
            let max = LIST as u32;
            let arg = DomainList {
                first,
                pad: 0,
                max,
                address: buffer.addr(),
                count: 0,
                pad2: 0,
            };
            let count =
                (self.sysctl(abi::XEN_SYSCTL_GETDOMAININFOLIST, &arg)?.count as usize).min(LIST);
            let some: Vec<DomainInfo> = items(&buffer, count)?;
            all.extend(&some);
            match some.last().and_then(|last| last.domain.checked_add(1)) {
                Some(next) if count == LIST && next > first => first = next,
                _ => return Ok(all),
            }
        }
    }

    /// Does what those keys do on the hypervisor's own console.
    pub fn debug_keys(&self, keys: &[u8]) -> Result<()> {
        let count = u32::try_from(keys.len()).map_err(|_| Errno::TOOBIG)?;
        let buffer = self.buffer_of(keys)?;
        self.sysctl(
            abi::XEN_SYSCTL_DEBUG_KEYS,
            &AddressCount {
                address: buffer.addr(),
                count,
                pad: 0,
            },
        )
        .map(drop)
    }

    /// Nanoseconds that each CPU was idle.
    pub fn cpu_idle_times(&self) -> Result<Vec<u64>> {
        let buffer = self.buffer(CPUS * 8)?;
        let arg = CountAddress {
            count: CPUS as u32,
            pad: 0,
            address: buffer.addr(),
            answered: 0,
            pad2: 0,
        };
        let answer = self.sysctl(abi::XEN_SYSCTL_GETCPUINFO, &arg)?;
        items(&buffer, (answer.answered as usize).min(CPUS))
    }

    /// Free bytes of the heap, of memory below 2^`max_bits` (0: of all).
    pub fn available_heap(&self, max_bits: u32) -> Result<u64> {
        let arg = AvailHeap {
            min_bits: 0,
            max_bits,
            node: -1,
            pad: 0,
            bytes: 0,
        };
        self.sysctl(abi::XEN_SYSCTL_AVAILHEAP, &arg)
            .map(|answer| answer.bytes)
    }

    pub fn cpu_topology(&self) -> Result<Vec<CpuTopology>> {
        let buffer = self.buffer(CPUS * size_of::<CpuTopology>())?;
        let arg = CountAddress {
            count: CPUS as u32,
            pad: 0,
            address: buffer.addr(),
            answered: 0,
            pad2: 0,
        };
        let answer = self.sysctl(abi::XEN_SYSCTL_CPUTOPOINFO, &arg)?;
        items(&buffer, (answer.count as usize).min(CPUS))
    }
}

const _: () = assert!(size_of::<PhysInfo>() == 112);
