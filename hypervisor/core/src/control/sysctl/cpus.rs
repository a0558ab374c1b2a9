//! The machine's CPUs: how long each was idle, and where it sits.

use guest_pv_abi as abi;
use oxen_types::{CpuId, Result};

use crate::hypercall::{Call, List, Privileged};

/// The idle time of each CPU.
pub(super) fn idle(
    call: &Call<'_>,
    _dom0: Privileged,
    ask: &mut abi::SysctlGetCpuInfo,
) -> Result<()> {
    let platform = call.machine().platform;
    ask.nr_cpus = ask.max_cpus.min(platform.info().cpus);
    let list: List<'_, abi::SysctlCpuInfo> = call.list(ask.info);
    for cpu in 0..ask.nr_cpus {
        let idletime = platform.idle_ns(CpuId(cpu));
        list.set(cpu.into(), &abi::SysctlCpuInfo { idletime })?;
    }
    Ok(())
}

/// CPUs are numbered thread by thread, core by core, socket by socket.
pub(super) fn topology(
    call: &Call<'_>,
    _dom0: Privileged,
    ask: &mut abi::SysctlCpuTopoInfo,
) -> Result<()> {
    let info = call.machine().platform.info();
    let list: List<'_, abi::SysctlCpuTopo> = call.list(ask.cputopo);
    if list.is_null() {
        ask.num_cpus = info.cpus;
        return Ok(());
    }
    ask.num_cpus = ask.num_cpus.min(info.cpus);
    let (threads, cores) = (info.threads_per_core.max(1), info.cores_per_socket.max(1));
    for cpu in 0..ask.num_cpus {
        let core = cpu / threads;
        let place = abi::SysctlCpuTopo {
            core: core % cores,
            socket: core / cores,
            node: 0,
        };
        list.set(cpu.into(), &place)?;
    }
    Ok(())
}

/// Features are levelled by CPUID exits, for which no capability of the CPU is needed.
pub(super) fn levelling(
    _call: &Call<'_>,
    _dom0: Privileged,
    answer: &mut abi::SysctlCpuLevellingCaps,
) {
    answer.caps = 0;
}
