//! The scheduler and CPU pools: there is one of each, and all CPUs and domains are in it.

use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::{CpuMask, DomainId, Errno};

use crate::control::map;
use crate::hypercall::{Answer, Call};

const POOL: u32 = 0;

fn scheduler(call: &Call<'_>) -> u32 {
    call.machine().sched.with(|policy| policy.abi_id())
}

pub fn id(call: &Call<'_>, op: &mut abi::Sysctl) -> Answer {
    let sched_id = scheduler(call);
    op.u.store(&abi::SysctlSchedId { sched_id });
    Ok(0)
}

/// The global parameters can be read only.
pub fn params(call: &Call<'_>, op: &mut abi::Sysctl) -> Answer {
    let mut ask: abi::SysctlSchedulerOp = op.u.view();
    if ask.cpupool_id != POOL || ask.sched_id != scheduler(call) {
        return Err(Errno::Inval.into());
    }
    match ask.cmd {
        abi::XEN_SYSCTL_SCHEDOP_GETINFO if ask.sched_id == abi::XEN_SCHEDULER_CREDIT2 => {
            let limit = call.machine().sched.with(|policy| policy.rate_limit());
            ask.u.store(&abi::SysctlCredit2Schedule {
                ratelimit_us: (limit / 1000) as u32,
            });
            op.u.store(&ask);
            Ok(0)
        }
        abi::XEN_SYSCTL_SCHEDOP_GETINFO | abi::XEN_SYSCTL_SCHEDOP_PUTINFO => {
            Err(Errno::OpNotSupp.into())
        }
        _ => Err(Errno::Inval.into()),
    }
}

pub fn pools(call: &Call<'_>, op: &mut abi::Sysctl) -> Answer {
    let mut ask: abi::SysctlCpupoolOp = op.u.view();
    match ask.op {
        // The pool asked for or the next one.
        abi::XEN_SYSCTL_CPUPOOL_OP_INFO => {
            if ask.cpupool_id != POOL && ask.cpupool_id != abi::XEN_SYSCTL_CPUPOOL_PAR_ANY {
                return Err(Errno::NoEnt.into());
            }
            let machine = call.machine();
            let cpus = machine.platform.info().cpus;
            map::write(call, &ask.cpumap, CpuMask::below(cpus))?;
            ask.cpupool_id = POOL;
            ask.sched_id = scheduler(call);
            ask.n_dom = machine.domain_count() as u32;
        }
        abi::XEN_SYSCTL_CPUPOOL_OP_FREEINFO => map::write(call, &ask.cpumap, CpuMask::EMPTY)?,
        abi::XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN => {
            let id = u16::try_from(ask.domid).map_err(|_| Errno::Srch)?;
            call.machine().domain(DomainId(id)).ok_or(Errno::Srch)?;
            if ask.cpupool_id != POOL {
                return Err(Errno::NoEnt.into());
            }
        }
        abi::XEN_SYSCTL_CPUPOOL_OP_CREATE
        | abi::XEN_SYSCTL_CPUPOOL_OP_DESTROY
        | abi::XEN_SYSCTL_CPUPOOL_OP_ADDCPU
        | abi::XEN_SYSCTL_CPUPOOL_OP_RMCPU => return Err(Errno::OpNotSupp.into()),
        _ => return Err(Errno::NoSys.into()),
    }
    op.u.store(&ask);
    Ok(0)
}
