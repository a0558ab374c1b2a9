//! The machine's size: CPUs, memory, nodes (physinfo, availheap, numainfo, pcitopoinfo).

use guest_pv_abi as abi;
use oxen_types::{Errno, PAGE_SHIFT, PAGE_SIZE, Result};

use crate::hypercall::{Call, List, Privileged};

/// A node's distance to itself (ACPI's SLIT).
const LOCAL_DISTANCE: u32 = 10;
/// PCI devices that one call may ask for.
const MOST_DEVICES: u32 = 1024;

/// CPUs, memory and what the machine can do.
pub(super) fn physinfo(call: &Call<'_>, _dom0: Privileged, answer: &mut abi::SysctlPhysInfo) {
    let info = call.machine().platform.info();
    let can = |able, flag| if able { flag } else { 0 };
    let paging = can(info.hap, abi::XEN_SYSCTL_PHYSCAP_HAP)
        | can(info.shadow, abi::XEN_SYSCTL_PHYSCAP_SHADOW);
    *answer = abi::SysctlPhysInfo {
        threads_per_core: info.threads_per_core,
        cores_per_socket: info.cores_per_socket,
        nr_cpus: info.cpus,
        max_cpu_id: info.cpus.saturating_sub(1),
        nr_nodes: 1,
        max_node_id: 0,
        cpu_khz: info.cpu_khz,
        capabilities: abi::XEN_SYSCTL_PHYSCAP_HVM | abi::XEN_SYSCTL_PHYSCAP_GNTTAB_V1 | paging,
        arch_capabilities: 0,
        pad: 0,
        total_pages: info.memory.total_frames,
        free_pages: info.memory.free_frames,
        scrub_pages: 0,
        outstanding_pages: info.memory.claimed_frames,
        max_mfn: info.memory.max_frame,
        hw_cap: info.hw_cap,
    };
}

/// Free memory. Below a width of addresses it is at most what fits there.
pub(super) fn available(
    call: &Call<'_>,
    _dom0: Privileged,
    ask: &mut abi::SysctlAvailHeap,
) -> Result<()> {
    if !(-1..=0).contains(&ask.node) {
        return Err(Errno::Inval);
    }
    let free = call.machine().frames.stats().free_frames;
    let limit = match ask.max_bitwidth.checked_sub(PAGE_SHIFT) {
        Some(bits) => 1u64.checked_shl(bits).unwrap_or(u64::MAX),
        None if ask.max_bitwidth == 0 => u64::MAX,
        None => 0,
    };
    ask.avail_bytes = free.min(limit).saturating_mul(PAGE_SIZE as u64);
    Ok(())
}

/// All memory is one node.
pub(super) fn nodes(
    call: &Call<'_>,
    _dom0: Privileged,
    ask: &mut abi::SysctlNumaInfo,
) -> Result<()> {
    if ask.num_nodes > 0 {
        let stats = call.machine().frames.stats();
        if ask.meminfo != 0 {
            let node = abi::SysctlMemInfo {
                memsize: stats.total_frames.saturating_mul(PAGE_SIZE as u64),
                memfree: stats.free_frames.saturating_mul(PAGE_SIZE as u64),
            };
            call.list(ask.meminfo).set(0, &node)?;
        }
        if ask.distance != 0 {
            call.list(ask.distance).set(0, &LOCAL_DISTANCE)?;
        }
    }
    ask.num_nodes = 1;
    Ok(())
}

/// dom0 knows the devices; that they have no node of their own is all we can tell.
pub(super) fn devices(
    call: &Call<'_>,
    _dom0: Privileged,
    ask: &mut abi::SysctlPciTopoInfo,
) -> Result<()> {
    let nodes: List<'_, u32> = call.list(ask.nodes);
    ask.num_devs = ask.num_devs.min(MOST_DEVICES);
    for i in 0..u64::from(ask.num_devs) {
        nodes.set(i, &abi::XEN_INVALID_DEV)?;
    }
    Ok(())
}
