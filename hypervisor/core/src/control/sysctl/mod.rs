//! sysctl: the machine, as the toolstack sees and controls it (xen/sysctl.h, interface version 0x15).
//!
//! Only a privileged domain may call it.

mod console;
mod cpus;
mod domains;
mod machine;
mod sched;

use guest_pv_abi as abi;
use oxen_types::Errno;

use crate::hypercall::{Answer, Call, Handle, Stop};

/// args: the operation.
pub fn call(call: &mut Call<'_>) -> Answer {
    let at: Handle<abi::Sysctl> = call.handle(0);
    let mut op = call.read(at)?;
    if op.interface_version != abi::SYSCTL_INTERFACE_VERSION {
        return Err(Errno::Acces.into());
    }
    let before = op;
    let answer = act(call, &mut op);
    if answer != Err(Stop::Again) && bytemuck::bytes_of(&op) != bytemuck::bytes_of(&before) {
        call.write(at, &op)?;
    }
    answer
}

fn act(call: &mut Call<'_>, op: &mut abi::Sysctl) -> Answer {
    match op.cmd {
        abi::XEN_SYSCTL_READCONSOLE => console::read(call, op),
        abi::XEN_SYSCTL_DEBUG_KEYS => console::keys(call, op),
        abi::XEN_SYSCTL_GETDOMAININFOLIST => domains::list(call, op),
        abi::XEN_SYSCTL_PHYSINFO => machine::physinfo(call, op),
        abi::XEN_SYSCTL_AVAILHEAP => machine::available(call, op),
        abi::XEN_SYSCTL_NUMAINFO => machine::nodes(call, op),
        abi::XEN_SYSCTL_PCITOPOINFO => machine::devices(call, op),
        abi::XEN_SYSCTL_GETCPUINFO => cpus::idle(call, op),
        abi::XEN_SYSCTL_CPUTOPOINFO => cpus::topology(call, op),
        abi::XEN_SYSCTL_GET_CPU_LEVELLING_CAPS => cpus::levelling(op),
        abi::XEN_SYSCTL_SCHED_ID => sched::id(call, op),
        abi::XEN_SYSCTL_SCHEDULER_OP => sched::params(call, op),
        abi::XEN_SYSCTL_CPUPOOL_OP => sched::pools(call, op),
        // The CPUs' idle and frequency states are the hardware's own choice here.
        abi::XEN_SYSCTL_GET_PMSTAT => Err(Errno::NoDev.into()),
        abi::XEN_SYSCTL_PM_OP
        | abi::XEN_SYSCTL_CPU_HOTPLUG
        | abi::XEN_SYSCTL_PAGE_OFFLINE_OP
        | abi::XEN_SYSCTL_GET_CPU_FEATURESET
        | abi::XEN_SYSCTL_GET_CPU_POLICY => Err(Errno::OpNotSupp.into()),
        _ => Err(Errno::NoSys.into()),
    }
}

#[cfg(test)]
mod tests;
