//! Where a domain's vcpus may run, and how much they get.

use alloc::sync::Arc;

use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::{CpuId, Errno};

use crate::control::map;
use crate::domain::Domain;
use crate::hypercall::{Answer, Call, Stop};
use crate::sched::Share;
use crate::vcpu::Vcpu;

/// Values that leave weight and cap as they are.
const SAME_WEIGHT: u16 = 0;
const SAME_CAP: u16 = u16::MAX;

const BOTH: u32 = abi::XEN_VCPUAFFINITY_HARD | abi::XEN_VCPUAFFINITY_SOFT;

fn find(domain: &Domain, vcpu: u32) -> Result<Arc<Vcpu>, Errno> {
    if vcpu >= domain.config.max_vcpus {
        return Err(Errno::Inval);
    }
    domain.vcpu(vcpu).ok_or(Errno::Srch)
}

fn cpus(call: &Call<'_>) -> u64 {
    map::below(call.machine().platform.info().cpus.min(map::BITS))
}

/// The hard affinity is kept to; the soft one is accepted and has no effect, as any CPU is as good
/// as another here. Both are answered as far as they count.
pub fn set_affinity(call: &Call<'_>, domain: &Domain, op: &abi::Domctl) -> Answer {
    let ask: abi::DomctlVcpuAffinity = op.u.view();
    if ask.flags & BOTH == 0 {
        return Err(Errno::Inval.into());
    }
    let vcpu = find(domain, ask.vcpu)?;
    let online = cpus(call);
    let sched = &call.machine().sched;
    if ask.flags & abi::XEN_VCPUAFFINITY_HARD != 0 {
        let wish = map::read(call, &ask.cpumap_hard)? & online;
        if wish == 0 {
            return Err(Errno::Inval.into());
        }
        map::write(call, &ask.cpumap_hard, wish)?;
        sched.with(|policy| policy.set_affinity(vcpu.unit(), wish));
        move_away(call, &vcpu, wish)?;
    }
    if ask.flags & abi::XEN_VCPUAFFINITY_SOFT != 0 {
        let hard = sched.with(|policy| policy.affinity(vcpu.unit())) & online;
        let wish = map::read(call, &ask.cpumap_soft)?;
        map::write(call, &ask.cpumap_soft, wish & hard)?;
    }
    Ok(0)
}

/// Where it may no longer run it stops at once, and the others look whether it waits for them. The
/// call comes again until it is off that CPU: setting the same affinity twice does no harm.
fn move_away(call: &Call<'_>, vcpu: &Arc<Vcpu>, allowed: u64) -> Result<(), Stop> {
    let platform = call.machine().platform;
    let on = vcpu.cpu().filter(|cpu| allowed >> (cpu.0 % 64) & 1 == 0);
    if let Some(cpu) = on {
        platform.reschedule_on(cpu);
        if !Arc::ptr_eq(vcpu, call.vcpu) {
            return Err(Stop::Again);
        }
    }
    for cpu in (0..map::BITS).filter(|cpu| allowed >> cpu & 1 != 0) {
        platform.reschedule_on(CpuId(cpu));
    }
    Ok(())
}

pub fn affinity(call: &Call<'_>, domain: &Domain, op: &abi::Domctl) -> Answer {
    let ask: abi::DomctlVcpuAffinity = op.u.view();
    if ask.flags & BOTH == 0 {
        return Err(Errno::Inval.into());
    }
    let vcpu = find(domain, ask.vcpu)?;
    let online = cpus(call);
    if ask.flags & abi::XEN_VCPUAFFINITY_HARD != 0 {
        let hard = call
            .machine()
            .sched
            .with(|policy| policy.affinity(vcpu.unit()));
        map::write(call, &ask.cpumap_hard, hard & online)?;
    }
    if ask.flags & abi::XEN_VCPUAFFINITY_SOFT != 0 {
        map::write(call, &ask.cpumap_soft, online)?;
    }
    Ok(0)
}

/// All memory is one node.
pub fn set_node_affinity(call: &Call<'_>, op: &abi::Domctl) -> Answer {
    let ask: abi::DomctlNodeAffinity = op.u.view();
    if map::read(call, &ask.nodemap)? & 1 == 0 {
        return Err(Errno::Inval.into());
    }
    Ok(0)
}

pub fn node_affinity(call: &Call<'_>, op: &abi::Domctl) -> Answer {
    let ask: abi::DomctlNodeAffinity = op.u.view();
    map::write(call, &ask.nodemap, 1)?;
    Ok(0)
}

/// Weight and cap, in either credit scheduler's terms.
pub fn params(domain: &Domain, op: &mut abi::Domctl) -> Answer {
    let mut ask: abi::DomctlSchedulerOp = op.u.view();
    if !matches!(
        ask.sched_id,
        abi::XEN_SCHEDULER_CREDIT | abi::XEN_SCHEDULER_CREDIT2
    ) {
        return Err(Errno::Inval.into());
    }
    match ask.cmd {
        abi::XEN_DOMCTL_SCHEDOP_GETINFO => {
            let share = domain.control.lock().share;
            ask.u.store(&abi::DomctlSchedCredit2 {
                weight: share.weight,
                cap: share.cap,
            });
            op.u.store(&ask);
            Ok(0)
        }
        abi::XEN_DOMCTL_SCHEDOP_PUTINFO => {
            let wish: abi::DomctlSchedCredit2 = ask.u.view();
            set_share(domain, wish.weight, wish.cap)?;
            Ok(0)
        }
        // Single vcpus have no parameters of their own.
        _ => Err(Errno::Inval.into()),
    }
}

/// Each vcpu gets the domain's weight; the cap is divided among them.
fn set_share(domain: &Domain, weight: u16, cap: u16) -> Result<(), Errno> {
    let mut kept = domain.control.lock();
    let mut share = kept.share;
    if weight != SAME_WEIGHT {
        share.weight = weight;
    }
    if cap != SAME_CAP {
        if u32::from(cap) > domain.config.max_vcpus.saturating_mul(100) {
            return Err(Errno::Inval);
        }
        share.cap = cap;
    }
    kept.share = share;
    let vcpus = u16::try_from(domain.config.max_vcpus).unwrap_or(u16::MAX);
    let each = Share {
        cap: share.cap.div_ceil(vcpus.max(1)),
        ..share
    };
    domain.with_vcpus(|vcpus| {
        domain.machine.sched.with(|policy| {
            for vcpu in vcpus {
                policy.set_share(vcpu.unit(), each);
            }
        });
    });
    Ok(())
}
