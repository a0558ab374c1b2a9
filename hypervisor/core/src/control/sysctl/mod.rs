//! sysctl: the machine, as the toolstack sees and controls it (xen/sysctl.h, interface version
//! 0x15).
//!
//! Only a privileged domain may call it.

mod console;
mod cpus;
mod domains;
mod machine;
mod sched;

use guest_pv_abi as abi;
use oxen_types::Errno;

use crate::hypercall::op::{Request, enveloped, operations};
use crate::hypercall::{Answer, Call, Privileged};

/// args: the operation.
pub fn call(call: &mut Call<'_>) -> Answer {
    enveloped(call, act)
}

operations! {
    fn act(call, dom0: Privileged, request: &mut Request<abi::Sysctl>) with (dom0,);
    declared OPERATIONS;
    command request.envelope.cmd;
    argument request;
    accepted {
        XEN_SYSCTL_READCONSOLE: updates(abi::SysctlReadConsole) by dom0 => console::read,
            full("with index and clear");
        XEN_SYSCTL_DEBUG_KEYS: takes(abi::SysctlDebugKeys) by dom0 => console::keys,
            full("128 keys a call");
        XEN_SYSCTL_GETDOMAININFOLIST: updates(abi::SysctlGetDomainInfoList) by dom0
            => domains::list, full;
        XEN_SYSCTL_PHYSINFO: gives(abi::SysctlPhysInfo) by dom0 => machine::physinfo, full;
        XEN_SYSCTL_AVAILHEAP: updates(abi::SysctlAvailHeap) by dom0 => machine::available,
            full("one node");
        XEN_SYSCTL_NUMAINFO: updates(abi::SysctlNumaInfo) by dom0 => machine::nodes,
            full("one node");
        XEN_SYSCTL_PCITOPOINFO: updates(abi::SysctlPciTopoInfo) by dom0 => machine::devices,
            part("no device has a node; 1024 devices a call");
        XEN_SYSCTL_GETCPUINFO: updates(abi::SysctlGetCpuInfo) by dom0 => cpus::idle, full;
        XEN_SYSCTL_CPUTOPOINFO: updates(abi::SysctlCpuTopoInfo) by dom0 => cpus::topology,
            full("one node");
        XEN_SYSCTL_GET_CPU_LEVELLING_CAPS: gives(abi::SysctlCpuLevellingCaps) by dom0
            => cpus::levelling, full("none needed");
        XEN_SYSCTL_SCHED_ID: gives(abi::SysctlSchedId) by dom0 => sched::id, full("credit2");
        XEN_SYSCTL_SCHEDULER_OP: updates(abi::SysctlSchedulerOp) by dom0 => sched::params,
            part("credit2's rate limit can be read");
        XEN_SYSCTL_CPUPOOL_OP: updates(abi::SysctlCpupoolOp) by dom0 => sched::pools,
            part("info, freeinfo, movedomain on the one pool 0; others -EOPNOTSUPP");
    }
    refused {
        XEN_SYSCTL_GET_PMSTAT: NoDev, "the hardware chooses idle and frequency states";
        XEN_SYSCTL_PM_OP: OpNotSupp;
        XEN_SYSCTL_CPU_HOTPLUG: OpNotSupp;
        XEN_SYSCTL_PAGE_OFFLINE_OP: OpNotSupp;
        XEN_SYSCTL_GET_CPU_FEATURESET: OpNotSupp;
        XEN_SYSCTL_GET_CPU_POLICY: OpNotSupp;
        XEN_SYSCTL_TBUF_OP: NoSys;
        XEN_SYSCTL_PERFC_OP: NoSys;
        XEN_SYSCTL_LOCKPROF_OP: NoSys;
        XEN_SYSCTL_COVERAGE_OP: NoSys;
        XEN_SYSCTL_PSR_CMT_OP: NoSys;
        XEN_SYSCTL_PSR_ALLOC: NoSys;
        XEN_SYSCTL_LIVEPATCH_OP: NoSys;
    }
    else Err(Errno::NoSys.into());
}

#[cfg(test)]
mod tests;
