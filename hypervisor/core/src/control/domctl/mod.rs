//! domctl: one domain, as its toolstack controls it (xen/domctl.h, interface version 0x15).
//!
//! Only a privileged domain may call it. What takes long is called again ([`Stop::Again`]) until it
//! is done; how far it got stands in the domain that it is about.

mod context;
mod create;
pub mod info;
mod life;
mod paging;
mod policy;
mod rights;
mod sched;
mod settings;

use guest_pv_abi as abi;
use oxen_types::{DomainId, Errno};

use crate::hypercall::op::{Request, enveloped, operations};
use crate::hypercall::{Answer, Call, Privileged, Target};

pub use policy::leaf;

/// args: the operation.
pub fn call(call: &mut Call<'_>) -> Answer {
    enveloped(call, act)
}

operations! {
    fn act(call, dom0: Privileged, request: &mut Request<abi::Domctl>) with (dom0,);
    declared OPERATIONS;
    command request.envelope.cmd;
    argument request;
    accepted {
        XEN_DOMCTL_CREATEDOMAIN: whole(abi::Domctl) by dom0 => create::create,
            part("PVH only (hvm, hap where the machine has it, emulation flags = local APIC). IOMMU, \
            nested virtualization, vPMU, vmtrace and CPU pools other than 0 are -EINVAL. `grant_opts` \
            1 or 2: guests get version 1. The domain begins paused, with its vcpus down and no memory");
        XEN_DOMCTL_GETDOMAININFO: whole(abi::Domctl) by dom0 => info::domain, full;
    }
    refused {}
    else on_domain(call, dom0, request);
}

/// The rest is about the domain that the envelope names: -ESRCH if there is none.
fn on_domain(call: &mut Call<'_>, dom0: Privileged, request: &mut Request<abi::Domctl>) -> Answer {
    let domain = dom0.over(call, DomainId(request.envelope.domain))?;
    act_on(call, &domain, request)
}

operations! {
    fn act_on(call, domain: &Target, request: &mut Request<abi::Domctl>) with (domain,);
    declared ON_DOMAIN;
    command request.envelope.cmd;
    argument request;
    accepted {
        XEN_DOMCTL_DESTROYDOMAIN: plain by other => life::destroy,
            full("a domain that another call is destroying already is destroyed on. Pages that others \
            still map are freed when they let go; until then the domain is listed as dying, and its \
            number is not free");
        XEN_DOMCTL_PAUSEDOMAIN: plain by other => life::pause, full("returns when no vcpu runs");
        XEN_DOMCTL_UNPAUSEDOMAIN: plain by other => life::unpause, full;
        XEN_DOMCTL_RESUMEDOMAIN: plain by other => life::resume, full;
        XEN_DOMCTL_SENDTRIGGER: takes(abi::DomctlSendTrigger) by domain => life::trigger,
            part("NMI; others -ENOSYS, as in Xen");

        XEN_DOMCTL_GETVCPUINFO: updates(abi::DomctlGetVcpuInfo) by domain => info::vcpu, full;

        XEN_DOMCTL_MAX_VCPUS: takes(abi::DomctlMaxVcpus) by other => settings::max_vcpus,
            full("it must be createdomain's number");
        XEN_DOMCTL_MAX_MEM: takes(abi::DomctlMaxMem) by domain => settings::max_mem, full;
        XEN_DOMCTL_SETDOMAINHANDLE: takes(abi::DomctlSetDomainHandle) by domain
            => settings::handle, full;
        XEN_DOMCTL_SETTIMEOFFSET: takes(abi::DomctlSetTimeOffset) by domain
            => settings::time_offset, full;
        XEN_DOMCTL_GETTSCINFO: gives(abi::DomctlTscInfo) by domain => settings::tsc_info,
            part("the TSC is native, at the host's rate");
        XEN_DOMCTL_SETTSCINFO: takes(abi::DomctlTscInfo) by other => settings::set_tsc_info,
            part("modes 0 and 2; mode 1 is -EOPNOTSUPP");
        XEN_DOMCTL_GET_ADDRESS_SIZE: gives(abi::DomctlAddressSize) by domain
            => settings::address_size, full("64");
        XEN_DOMCTL_SET_ADDRESS_SIZE: takes(abi::DomctlAddressSize) by domain
            => settings::set_address_size, full("64");
        XEN_DOMCTL_SETDEBUGGING: takes(abi::DomctlSetDebugging) by other => settings::debugging, full;
        XEN_DOMCTL_SUBSCRIBE: takes(abi::DomctlSubscribe) by domain => settings::subscribe,
            full("the suspend event channel");

        XEN_DOMCTL_SETVCPUAFFINITY: takes(abi::DomctlVcpuAffinity) by domain => sched::set_affinity,
            part("hard affinity, CPUs 0 to 63; soft affinity is taken");
        XEN_DOMCTL_GETVCPUAFFINITY: takes(abi::DomctlVcpuAffinity) by domain => sched::affinity,
            part("CPUs 0 to 63");
        XEN_DOMCTL_SETNODEAFFINITY: takes(abi::DomctlNodeAffinity) by domain
            => sched::set_node_affinity, part("one node");
        XEN_DOMCTL_GETNODEAFFINITY: takes(abi::DomctlNodeAffinity) by domain
            => sched::node_affinity, part("one node");
        XEN_DOMCTL_SCHEDULER_OP: updates(abi::DomctlSchedulerOp) by domain => sched::params,
            part("weight and cap, under either credit scheduler's id. The cap is divided evenly among \
            the vcpus");

        XEN_DOMCTL_GETHVMCONTEXT: updates(abi::DomctlHvmContext) by other => context::get,
            part("CPU, XSAVE, MTRR records; local APIC records are saved as soon as migration needs them");
        XEN_DOMCTL_SETHVMCONTEXT: takes(abi::DomctlHvmContext) by other => context::set,
            part("the same records. As in Xen, setting takes all vcpus down, and those with a CPU record up");
        XEN_DOMCTL_GETHVMCONTEXT_PARTIAL: updates(abi::DomctlHvmContextPartial) by other
            => context::get_one, part("the same records");

        XEN_DOMCTL_GET_CPU_POLICY: updates(abi::DomctlCpuPolicy) by domain => policy::get,
            part("CPUID and MSRs");
        XEN_DOMCTL_SET_CPU_POLICY: reports(abi::DomctlCpuPolicy) by other => policy::set,
            part("CPUID. Until the domain is first unpaused, then -EEXIST");

        XEN_DOMCTL_SHADOW_OP: updates(abi::DomctlShadowOp) by other => paging::shadow,
            part("log-dirty mode (enable, enable_logdirty, off, peek, clean) and get/set_allocation, \
            which size the pool of a guest on shadows; the older modes are -EINVAL, as for Xen's \
            guests with nested paging");
        XEN_DOMCTL_GET_PAGING_MEMPOOL_SIZE: gives(abi::DomctlPagingMempool) by domain
            => paging::pool, full("page tables, and shadows, come from the pool alone");
        XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE: takes(abi::DomctlPagingMempool) by domain
            => paging::set_pool, full("taken from free memory when it is set. A size below what is in \
            use is -ENOMEM");
        XEN_DOMCTL_GETPAGEFRAMEINFO3: takes(abi::DomctlGetPageFrameInfo3) by domain
            => paging::frame_types, full;

        XEN_DOMCTL_IRQ_PERMISSION: takes(abi::DomctlIrqPermission) by domain => rights::irq,
            part("what is so already may be asked for (dom0 has all rights, others have none), else -EPERM");
        XEN_DOMCTL_IOMEM_PERMISSION: takes(abi::DomctlIomemPermission) by domain => rights::memory,
            part("likewise");
        XEN_DOMCTL_IOPORT_PERMISSION: takes(abi::DomctlIoportPermission) by domain => rights::ports,
            part("likewise");
    }
    refused {
        XEN_DOMCTL_GETVCPUCONTEXT: OpNotSupp;
        XEN_DOMCTL_SETVCPUCONTEXT: OpNotSupp;
        XEN_DOMCTL_HYPERCALL_INIT: OpNotSupp,
            "guests have the page written by the MSR that CPUID names";
        XEN_DOMCTL_SET_TARGET: OpNotSupp, "there are no device-model domains yet";
        XEN_DOMCTL_SET_VIRQ_HANDLER: OpNotSupp;
        XEN_DOMCTL_SOFT_RESET: OpNotSupp;
        XEN_DOMCTL_REAL_MODE_AREA: NoSys;
        XEN_DOMCTL_ASSIGN_DEVICE: NoSys;
        XEN_DOMCTL_BIND_PT_IRQ: NoSys;
        XEN_DOMCTL_MEMORY_MAPPING: NoSys;
        XEN_DOMCTL_IOPORT_MAPPING: NoSys;
        XEN_DOMCTL_SET_EXT_VCPUCONTEXT: NoSys;
        XEN_DOMCTL_GET_EXT_VCPUCONTEXT: NoSys;
        XEN_DOMCTL_SET_OPT_FEATURE: NoSys;
        XEN_DOMCTL_TEST_ASSIGN_DEVICE: NoSys;
        XEN_DOMCTL_DEASSIGN_DEVICE: NoSys;
        XEN_DOMCTL_UNBIND_PT_IRQ: NoSys;
        XEN_DOMCTL_GET_DEVICE_GROUP: NoSys;
        XEN_DOMCTL_DEBUG_OP: NoSys;
        XEN_DOMCTL_VM_EVENT_OP: NoSys;
        XEN_DOMCTL_MEM_SHARING_OP: NoSys;
        XEN_DOMCTL_SETVCPUEXTSTATE: NoSys;
        XEN_DOMCTL_GETVCPUEXTSTATE: NoSys;
        XEN_DOMCTL_SET_ACCESS_REQUIRED: NoSys;
        XEN_DOMCTL_AUDIT_P2M: NoSys;
        XEN_DOMCTL_SET_BROKEN_PAGE_P2M: NoSys;
        XEN_DOMCTL_CACHEFLUSH: NoSys;
        XEN_DOMCTL_GET_VCPU_MSRS: NoSys;
        XEN_DOMCTL_SET_VCPU_MSRS: NoSys;
        XEN_DOMCTL_SETVNUMAINFO: NoSys;
        XEN_DOMCTL_PSR_CMT_OP: NoSys;
        XEN_DOMCTL_MONITOR_OP: NoSys;
        XEN_DOMCTL_PSR_ALLOC: NoSys;
        XEN_DOMCTL_VUART_OP: NoSys;
        XEN_DOMCTL_VMTRACE_OP: NoSys;
        XEN_DOMCTL_GDBSX_GUESTMEMIO: NoSys;
        XEN_DOMCTL_GDBSX_PAUSEVCPU: NoSys;
        XEN_DOMCTL_GDBSX_UNPAUSEVCPU: NoSys;
        XEN_DOMCTL_GDBSX_DOMSTATUS: NoSys;
    }
    else Err(Errno::NoSys.into());
}

#[cfg(test)]
mod tests;
