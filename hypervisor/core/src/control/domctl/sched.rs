//! Where a domain's vcpus may run, and how much they get.

use alloc::sync::Arc;

use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::{CpuId, CpuMask, Errno, Result};

use crate::control::map;
use crate::domain::Domain;
use crate::hypercall::{Answer, Call, Stop, Target};
use crate::sched::Share;
use crate::vcpu::Vcpu;

/// Values that leave weight and cap as they are.
const SAME_WEIGHT: u16 = 0;
const SAME_CAP: u16 = u16::MAX;

const BOTH: u32 = abi::XEN_VCPUAFFINITY_HARD | abi::XEN_VCPUAFFINITY_SOFT;

fn find(domain: &Domain, vcpu: u32) -> Result<Arc<Vcpu>> {
    if vcpu >= domain.config.max_vcpus {
        return Err(Errno::Inval);
    }
    domain.vcpu(vcpu).ok_or(Errno::Srch)
}

fn online(call: &Call<'_>) -> CpuMask {
    CpuMask::below(call.machine().platform.info().cpus)
}

/// The hard affinity is kept to; the soft one is kept to while one of its CPUs is free. The
/// caller's sets become what counts of them.
pub(super) fn set_affinity(
    call: &Call<'_>,
    domain: &Target,
    ask: &abi::DomctlVcpuAffinity,
) -> Answer {
    if ask.flags & BOTH == 0 {
        return Err(Errno::Inval.into());
    }
    let vcpu = find(domain, ask.vcpu)?;
    let online = online(call);
    let sched = &call.machine().sched;
    let mut wish = sched.with(|policy| policy.affinity(vcpu.unit()));
    if ask.flags & abi::XEN_VCPUAFFINITY_HARD != 0 {
        wish.hard = map::read(call, &ask.cpumap_hard)?.and(online);
        if wish.hard.is_empty() {
            return Err(Errno::Inval.into());
        }
    }
    if ask.flags & abi::XEN_VCPUAFFINITY_SOFT != 0 {
        wish.soft = map::read(call, &ask.cpumap_soft)?.and(online);
        if wish.soft.is_empty() {
            return Err(Errno::Inval.into());
        }
    }
    if ask.flags & abi::XEN_VCPUAFFINITY_HARD != 0 {
        map::write(call, &ask.cpumap_hard, wish.hard)?;
    }
    if ask.flags & abi::XEN_VCPUAFFINITY_SOFT != 0 {
        map::write(call, &ask.cpumap_soft, wish.soft.and(wish.hard))?;
    }
    let now = call.machine().now();
    let looks = sched.with(|policy| policy.set_affinity(vcpu.unit(), wish, now));
    if let Some(cpu) = looks {
        call.machine().platform.reschedule_on(cpu);
    }
    moved_away(call, &vcpu, wish.hard)
}

/// Where it may no longer run it stops at once: the call comes again until it is off that CPU.
/// Setting the same affinity twice does no harm.
fn moved_away(call: &Call<'_>, vcpu: &Arc<Vcpu>, allowed: CpuMask) -> Answer {
    match vcpu.cpu() {
        Some(cpu) if !allowed.contains(cpu) && !Arc::ptr_eq(vcpu, call.vcpu) => Err(Stop::Again),
        _ => Ok(0),
    }
}

/// Both affinities, as far as the caller has room for them.
pub(super) fn affinity(
    call: &Call<'_>,
    domain: &Target,
    ask: &abi::DomctlVcpuAffinity,
) -> Result<()> {
    if ask.flags & BOTH == 0 {
        return Err(Errno::Inval);
    }
    let vcpu = find(domain, ask.vcpu)?;
    let online = online(call);
    let now = call
        .machine()
        .sched
        .with(|policy| policy.affinity(vcpu.unit()));
    if ask.flags & abi::XEN_VCPUAFFINITY_HARD != 0 {
        map::write(call, &ask.cpumap_hard, now.hard.and(online))?;
    }
    if ask.flags & abi::XEN_VCPUAFFINITY_SOFT != 0 {
        map::write(call, &ask.cpumap_soft, now.soft.and(online))?;
    }
    Ok(())
}

/// All memory is one node.
pub(super) fn set_node_affinity(
    call: &Call<'_>,
    _domain: &Target,
    ask: &abi::DomctlNodeAffinity,
) -> Result<()> {
    if !map::read(call, &ask.nodemap)?.contains(CpuId(0)) {
        return Err(Errno::Inval);
    }
    Ok(())
}

/// The one node.
pub(super) fn node_affinity(
    call: &Call<'_>,
    _domain: &Target,
    ask: &abi::DomctlNodeAffinity,
) -> Result<()> {
    map::write(call, &ask.nodemap, CpuMask::one(CpuId(0)))
}

/// Weight and cap, in either credit scheduler's terms.
pub(super) fn params(
    _call: &Call<'_>,
    domain: &Target,
    ask: &mut abi::DomctlSchedulerOp,
) -> Result<()> {
    if !matches!(
        ask.sched_id,
        abi::XEN_SCHEDULER_CREDIT | abi::XEN_SCHEDULER_CREDIT2
    ) {
        return Err(Errno::Inval);
    }
    match ask.cmd {
        abi::XEN_DOMCTL_SCHEDOP_GETINFO => {
            let share = domain.with_control(|control| control.share);
            ask.u.store(&abi::DomctlSchedCredit2 {
                weight: share.weight,
                cap: share.cap,
            });
            Ok(())
        }
        abi::XEN_DOMCTL_SCHEDOP_PUTINFO => {
            let wish: abi::DomctlSchedCredit2 = ask.u.view();
            set_share(domain, wish.weight, wish.cap)
        }
        // Single vcpus have no parameters of their own.
        _ => Err(Errno::Inval),
    }
}

/// Each vcpu gets the domain's weight; the cap is divided among them.
fn set_share(domain: &Domain, weight: u16, cap: u16) -> Result<()> {
    domain.with_control(|control| {
        let mut share = control.share;
        if weight != SAME_WEIGHT {
            share.weight = weight;
        }
        if cap != SAME_CAP {
            if u32::from(cap) > domain.config.max_vcpus.saturating_mul(100) {
                return Err(Errno::Inval);
            }
            share.cap = cap;
        }
        control.share = share;
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
    })
}
