//! The state of a domain and of a vcpu (getdomaininfo, getvcpuinfo).

use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::{DomainId, Errno, Result};

use crate::domain::{Domain, Dying};
use crate::hypercall::{Call, Privileged, Target};
use crate::runstate::State;
use crate::vcpu::Hold;

/// The domain asked for or, if there is none, the one with the next higher number.
pub fn domain(call: &Call<'_>, _dom0: Privileged, op: &mut abi::Domctl) -> Result<()> {
    let found = call.machine().next_domain(DomainId(op.domain));
    let domain = found.ok_or(Errno::Srch)?;
    op.domain = domain.id.0;
    op.u.store(&describe(&domain));
    Ok(())
}

/// Also an entry of sysctl getdomaininfolist.
pub fn describe(domain: &Domain) -> abi::DomctlGetDomainInfo {
    let now = domain.machine.now();
    let control = domain.with_control(|control| *control);
    let mut info = abi::DomctlGetDomainInfo {
        domain: domain.id.0,
        pad1: 0,
        flags: life_flags(domain),
        tot_pages: domain.memory.ram_frames(),
        max_pages: domain.memory.max_frames(),
        outstanding_pages: domain.memory.claimed(),
        shr_pages: 0,
        paged_pages: 0,
        shared_info_frame: domain.shared_info_gfn().map_or(u64::MAX, |gfn| gfn.raw()),
        cpu_time: 0,
        nr_online_vcpus: 0,
        max_vcpu_id: abi::XEN_INVALID_MAX_VCPU_ID,
        ssidref: domain.config.ssid,
        handle: control.handle,
        cpupool: 0,
        gpaddr_bits: domain.machine.platform.guest_address_bits(),
        pad2: [0; 7],
        arch_config: abi::ArchDomainConfig {
            emulation_flags: domain.config.emulation,
            misc_flags: 0,
        },
    };
    let (mut blocked, mut running) = (true, false);
    domain.with_vcpus(|vcpus| {
        for vcpu in vcpus {
            let (_, times) = vcpu.run_times(now);
            info.cpu_time = info.cpu_time.saturating_add(times[State::Running as usize]);
            info.max_vcpu_id = vcpu.id.0;
            if !vcpu.is_held(Hold::Down) {
                info.nr_online_vcpus += 1;
                blocked &= vcpu.is_held(Hold::Blocked);
                running |= vcpu.cpu().is_some();
            }
        }
    });
    if info.nr_online_vcpus > 0 {
        info.flags |= flag(blocked, abi::XEN_DOMINF_BLOCKED);
        info.flags |= flag(running, abi::XEN_DOMINF_RUNNING);
    }
    info
}

fn life_flags(domain: &Domain) -> u32 {
    let life = domain.life();
    let nested = domain.config.flags & abi::XEN_DOMCTL_CDF_HAP != 0;
    let mut flags = abi::XEN_DOMINF_HVM_GUEST | flag(nested, abi::XEN_DOMINF_HAP);
    flags |= flag(life.dying != Dying::Alive, abi::XEN_DOMINF_DYING);
    flags |= flag(life.pauses > 0, abi::XEN_DOMINF_PAUSED);
    if let Some(reason) = life.shutdown {
        let reason = reason & abi::XEN_DOMINF_SHUTDOWNMASK;
        flags |= abi::XEN_DOMINF_SHUTDOWN | reason << abi::XEN_DOMINF_SHUTDOWNSHIFT;
    }
    let debugged = domain.with_control(|control| control.debugging);
    flags |= flag(debugged, abi::XEN_DOMINF_DEBUGGED);
    let store = domain.config.flags & abi::XEN_DOMCTL_CDF_XS_DOMAIN != 0;
    flags | flag(store, abi::XEN_DOMINF_XS_DOMAIN)
}

fn flag(on: bool, bit: u32) -> u32 {
    if on { bit } else { 0 }
}

/// The state of a vcpu, its CPU time, and its CPU.
pub fn vcpu(_call: &Call<'_>, domain: &Target, ask: &mut abi::DomctlGetVcpuInfo) -> Result<()> {
    if ask.vcpu >= domain.config.max_vcpus {
        return Err(Errno::Inval);
    }
    let vcpu = domain.vcpu(ask.vcpu).ok_or(Errno::Srch)?;
    let machine = domain.machine;
    let (_, times) = vcpu.run_times(machine.now());
    let allowed = machine.sched.with(|policy| policy.affinity(vcpu.unit()));
    *ask = abi::DomctlGetVcpuInfo {
        vcpu: ask.vcpu,
        online: u8::from(!vcpu.is_held(Hold::Down)),
        blocked: u8::from(vcpu.is_held(Hold::Blocked)),
        running: u8::from(vcpu.cpu().is_some()),
        _pad0: 0,
        cpu_time: times[State::Running as usize],
        // No CPU is set aside for one that does not run: the first that it may run on stands for
        // it.
        cpu: vcpu.cpu().or(allowed.hard.first()).map_or(0, |cpu| cpu.0),
        _pad1: 0,
    };
    Ok(())
}
