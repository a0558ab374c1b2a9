//! The scheduler and CPU pools: there is one of each, and all CPUs and domains are in it.

use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::{CpuMask, DomainId, Errno, Result};

use crate::control::map;
use crate::hypercall::{Call, Privileged};

const POOL: u32 = 0;

fn scheduler(call: &Call<'_>) -> u32 {
    call.machine().sched.with(|policy| policy.abi_id())
}

/// The scheduler's number (XEN_SCHEDULER_*).
pub(super) fn id(call: &Call<'_>, _dom0: Privileged, answer: &mut abi::SysctlSchedId) {
    answer.sched_id = scheduler(call);
}

/// The global parameters can be read only.
pub(super) fn params(
    call: &Call<'_>,
    _dom0: Privileged,
    ask: &mut abi::SysctlSchedulerOp,
) -> Result<()> {
    if ask.cpupool_id != POOL || ask.sched_id != scheduler(call) {
        return Err(Errno::Inval);
    }
    match ask.cmd {
        abi::XEN_SYSCTL_SCHEDOP_GETINFO if ask.sched_id == abi::XEN_SCHEDULER_CREDIT2 => {
            let limit = call.machine().sched.with(|policy| policy.rate_limit());
            ask.u.store(&abi::SysctlCredit2Schedule {
                ratelimit_us: (limit / 1000) as u32,
            });
            Ok(())
        }
        abi::XEN_SYSCTL_SCHEDOP_GETINFO | abi::XEN_SYSCTL_SCHEDOP_PUTINFO => Err(Errno::OpNotSupp),
        _ => Err(Errno::Inval),
    }
}

/// Operations on the one pool.
pub(super) fn pools(
    call: &Call<'_>,
    dom0: Privileged,
    ask: &mut abi::SysctlCpupoolOp,
) -> Result<()> {
    match ask.op {
        // The pool asked for or the next one.
        abi::XEN_SYSCTL_CPUPOOL_OP_INFO => {
            if ask.cpupool_id != POOL && ask.cpupool_id != abi::XEN_SYSCTL_CPUPOOL_PAR_ANY {
                return Err(Errno::NoEnt);
            }
            let machine = call.machine();
            let cpus = machine.platform.info().cpus;
            map::write(call, &ask.cpumap, CpuMask::below(cpus))?;
            ask.cpupool_id = POOL;
            ask.sched_id = scheduler(call);
            ask.n_dom = machine.domain_count() as u32;
            Ok(())
        }
        abi::XEN_SYSCTL_CPUPOOL_OP_FREEINFO => map::write(call, &ask.cpumap, CpuMask::EMPTY),
        abi::XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN => {
            let id = u16::try_from(ask.domid).map_err(|_| Errno::Srch)?;
            dom0.over(call, DomainId(id))?;
            match ask.cpupool_id {
                POOL => Ok(()),
                _ => Err(Errno::NoEnt),
            }
        }
        abi::XEN_SYSCTL_CPUPOOL_OP_CREATE
        | abi::XEN_SYSCTL_CPUPOOL_OP_DESTROY
        | abi::XEN_SYSCTL_CPUPOOL_OP_ADDCPU
        | abi::XEN_SYSCTL_CPUPOOL_OP_RMCPU => Err(Errno::OpNotSupp),
        _ => Err(Errno::NoSys),
    }
}
