//! The machine's CPUs: how long each was idle, and where it sits.

use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::CpuId;

use crate::hypercall::{Answer, Call, Handle};

pub fn idle(call: &Call<'_>, op: &mut abi::Sysctl) -> Answer {
    let mut ask: abi::SysctlGetCpuInfo = op.u.view();
    let platform = call.machine().platform;
    ask.nr_cpus = ask.max_cpus.min(platform.info().cpus);
    let list: Handle<abi::SysctlCpuInfo> = Handle::new(ask.info);
    for cpu in 0..ask.nr_cpus {
        let idletime = platform.idle_ns(CpuId(cpu));
        call.write(list.nth(cpu.into())?, &abi::SysctlCpuInfo { idletime })?;
    }
    op.u.store(&ask);
    Ok(0)
}

/// CPUs are numbered thread by thread, core by core, socket by socket.
pub fn topology(call: &Call<'_>, op: &mut abi::Sysctl) -> Answer {
    let mut ask: abi::SysctlCpuTopoInfo = op.u.view();
    let info = call.machine().platform.info();
    let list: Handle<abi::SysctlCpuTopo> = Handle::new(ask.cputopo);
    if list.is_null() {
        ask.num_cpus = info.cpus;
        op.u.store(&ask);
        return Ok(0);
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
        call.write(list.nth(cpu.into())?, &place)?;
    }
    op.u.store(&ask);
    Ok(0)
}

/// Features are levelled by CPUID exits, for which no capability of the CPU is needed.
pub fn levelling(op: &mut abi::Sysctl) -> Answer {
    op.u.store(&abi::SysctlCpuLevellingCaps { caps: 0 });
    Ok(0)
}
