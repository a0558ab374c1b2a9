//! The machine as a whole (xen/sysctl.h).

use bytemuck::Zeroable;
use guest_pv_abi as abi;

use super::{CpuTopology, DomainInfo, PhysInfo, items};
use crate::{Errno, Privcmd, Result};

/// Domains requested in one call.
const LIST: usize = 128;
/// The largest log ring that is read, and the most CPUs.
const LOG: usize = 1 << 20;
const CPUS: usize = 4096;

impl Privcmd {
    /// The hypervisor's log from `index` on (0 the first time) and the index to go on from.
    pub fn read_console(&self, index: u32, clear: bool) -> Result<(Vec<u8>, u32)> {
        let buffer = self.buffer(LOG)?;
        let arg = abi::SysctlReadConsole {
            clear: clear.into(),
            incremental: 1,
            pad0: 0,
            pad1: 0,
            index,
            buffer: buffer.addr(),
            count: LOG as u32,
            _pad2: 0,
        };
        let answer = self.sysctl(abi::XEN_SYSCTL_READCONSOLE, &arg)?;
        let mut log = vec![0; (answer.count as usize).min(LOG)];
        buffer.read(0, &mut log)?;
        Ok((log, answer.index))
    }

    pub fn physinfo(&self) -> Result<PhysInfo> {
        self.sysctl(abi::XEN_SYSCTL_PHYSINFO, &PhysInfo::zeroed())
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
            let arg = abi::SysctlGetDomainInfoList {
                first_domain: first,
                _pad0: 0,
                max_domains: LIST as u32,
                buffer: buffer.addr(),
                num_domains: 0,
                _pad1: 0,
            };
            let answer = self.sysctl(abi::XEN_SYSCTL_GETDOMAININFOLIST, &arg)?;
            let count = (answer.num_domains as usize).min(LIST);
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
            &abi::SysctlDebugKeys {
                keys: buffer.addr(),
                nr_keys: count,
                _pad: 0,
            },
        )
        .map(drop)
    }

    /// Nanoseconds that each CPU was idle.
    pub fn cpu_idle_times(&self) -> Result<Vec<u64>> {
        let buffer = self.buffer(CPUS * size_of::<abi::SysctlCpuInfo>())?;
        let arg = abi::SysctlGetCpuInfo {
            max_cpus: CPUS as u32,
            _pad0: 0,
            info: buffer.addr(),
            nr_cpus: 0,
            _pad1: 0,
        };
        let answer = self.sysctl(abi::XEN_SYSCTL_GETCPUINFO, &arg)?;
        items(&buffer, (answer.nr_cpus as usize).min(CPUS))
    }

    /// Free bytes of the heap, of memory below 2^`max_bits` (0: of all).
    pub fn available_heap(&self, max_bits: u32) -> Result<u64> {
        let arg = abi::SysctlAvailHeap {
            min_bitwidth: 0,
            max_bitwidth: max_bits,
            node: -1,
            _pad: 0,
            avail_bytes: 0,
        };
        self.sysctl(abi::XEN_SYSCTL_AVAILHEAP, &arg)
            .map(|answer| answer.avail_bytes)
    }

    pub fn cpu_topology(&self) -> Result<Vec<CpuTopology>> {
        let buffer = self.buffer(CPUS * size_of::<CpuTopology>())?;
        let arg = abi::SysctlCpuTopoInfo {
            num_cpus: CPUS as u32,
            _pad: 0,
            cputopo: buffer.addr(),
        };
        let answer = self.sysctl(abi::XEN_SYSCTL_CPUTOPOINFO, &arg)?;
        items(&buffer, (answer.num_cpus as usize).min(CPUS))
    }
}
