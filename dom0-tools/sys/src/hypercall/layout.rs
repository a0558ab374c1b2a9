//! The structures here against the ABI crate's, which are tested against the C headers.

use core::mem::offset_of;

use guest_pv_abi as abi;

use super::*;

/// Same size, and each pair of fields at the same place.
macro_rules! same {
    ($ours:path, $theirs:path $(, $our_field:ident = $their_field:ident)*) => {
        assert_eq!(size_of::<$ours>(), size_of::<$theirs>(), stringify!($ours));
        $(assert_eq!(
            offset_of!($ours, $our_field),
            offset_of!($theirs, $their_field),
            concat!(stringify!($ours), ".", stringify!($our_field))
        );)*
    };
}

#[test]
fn structures_are_the_abis() {
    assert_eq!(size_of::<DomctlHeader>() + UNION, size_of::<abi::Domctl>());
    assert_eq!(size_of::<SysctlHeader>() + UNION, size_of::<abi::Sysctl>());
    same!(
        CreateDomain,
        abi::DomctlCreateDomain,
        handle = handle,
        flags = flags,
        max_vcpus = max_vcpus,
        max_evtchn_port = max_evtchn_port,
        max_grant_frames = max_grant_frames,
        grant_opts = grant_opts,
        cpupool_id = cpupool_id,
        emulation_flags = arch
    );
    same!(
        DomainInfo,
        abi::DomctlGetDomainInfo,
        domain = domain,
        flags = flags,
        tot_pages = tot_pages,
        max_pages = max_pages,
        shared_info_frame = shared_info_frame,
        cpu_time = cpu_time,
        nr_online_vcpus = nr_online_vcpus,
        max_vcpu_id = max_vcpu_id,
        handle = handle,
        cpupool = cpupool,
        gpaddr_bits = gpaddr_bits,
        emulation_flags = arch_config
    );
    same!(
        domain::RemoteShutdown,
        abi::SchedRemoteShutdown,
        reason = reason
    );
    same!(
        domain::Trigger,
        abi::DomctlSendTrigger,
        trigger = trigger,
        vcpu = vcpu
    );
    same!(
        VcpuInfo,
        abi::DomctlGetVcpuInfo,
        vcpu = vcpu,
        online = online,
        running = running,
        cpu_time = cpu_time,
        cpu = cpu
    );
    same!(
        vcpu::Affinity,
        abi::DomctlVcpuAffinity,
        vcpu = vcpu,
        flags = flags,
        hard = cpumap_hard,
        soft = cpumap_soft
    );
    same!(
        vcpu::SchedulerOp,
        abi::DomctlSchedulerOp,
        scheduler = sched_id,
        cmd = cmd,
        params = u
    );
    same!(
        context::HvmContext,
        abi::DomctlHvmContext,
        size = size,
        address = buffer
    );
    same!(
        context::Partial,
        abi::DomctlHvmContextPartial,
        kind = kind,
        instance = instance,
        size = bufsz,
        address = buffer
    );
    same!(
        context::ShadowOp,
        abi::DomctlShadowOp,
        op = op,
        mode = mode,
        address = dirty_bitmap,
        pages = pages,
        faults = stats
    );
    same!(
        policy::Policy,
        abi::DomctlCpuPolicy,
        leaves = nr_leaves,
        msrs = nr_msrs,
        leaves_address = leaves,
        msrs_address = msrs,
        err_leaf = err_leaf,
        err_msr = err_msr
    );
    same!(CpuidLeaf, abi::CpuidLeaf);
    same!(MsrEntry, abi::MsrEntry);
    same!(
        TscInfo,
        abi::DomctlTscInfo,
        khz = gtsc_khz,
        elapsed_nsec = elapsed_nsec
    );
    same!(
        memory::Reservation,
        abi::MemoryReservation,
        address = extent_start,
        count = nr_extents,
        order = extent_order,
        flags = mem_flags,
        domain = domid
    );
    same!(
        memory::AddToPhysmap,
        abi::AddToPhysmap,
        space = space,
        index = idx,
        gfn = gpfn
    );
    same!(
        memory::RemoveFromPhysmap,
        abi::RemoveFromPhysmap,
        gfn = gpfn
    );
    same!(
        memory::ForeignMemoryMap,
        abi::ForeignMemoryMap,
        entries = nr_entries,
        address = buffer
    );
    same!(
        memory::HvmParam,
        abi::HvmParam,
        index = index,
        value = value
    );
    same!(E820Entry, abi::E820Entry);
    same!(
        events::AllocUnbound,
        abi::EvtchnAllocUnbound,
        remote = remote_dom,
        port = port
    );
    same!(
        PhysInfo,
        abi::SysctlPhysInfo,
        cpu_khz = cpu_khz,
        total_pages = total_pages,
        max_mfn = max_mfn,
        hw_cap = hw_cap
    );
    same!(
        CpuTopology,
        abi::SysctlCpuTopo,
        core = core,
        socket = socket,
        node = node
    );
    same!(
        sysctl::ReadConsole,
        abi::SysctlReadConsole,
        index = index,
        address = buffer,
        count = count
    );
    same!(
        sysctl::DomainList,
        abi::SysctlGetDomainInfoList,
        max = max_domains,
        address = buffer,
        count = num_domains
    );
    same!(
        sysctl::AddressCount,
        abi::SysctlDebugKeys,
        address = keys,
        count = nr_keys
    );
    same!(
        sysctl::CountAddress,
        abi::SysctlGetCpuInfo,
        count = max_cpus,
        address = info,
        answered = nr_cpus
    );
    assert_eq!(
        offset_of!(sysctl::CountAddress, address),
        offset_of!(abi::SysctlCpuTopoInfo, cputopo)
    );
    same!(
        sysctl::AvailHeap,
        abi::SysctlAvailHeap,
        node = node,
        bytes = avail_bytes
    );
}
