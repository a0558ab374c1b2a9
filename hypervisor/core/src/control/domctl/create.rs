//! createdomain: the wish is checked, then the layers below make the domain. It is born paused,
//! without memory, and all of its vcpus are down.

use core::ops::RangeInclusive;

use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::{DomainId, Errno, Result};

use crate::domain::{DomainConfig, MAX_VCPUS};
use crate::hypercall::{Call, Privileged};
use crate::seams::Claimant;

/// Xen's defaults where the toolstack does not say.
const DEFAULT_GRANT_FRAMES: u32 = 64;
const DEFAULT_MAPTRACK_FRAMES: u32 = 1024;
/// A table beyond this is a mistake: 2 GiB of memory to grant, in use at once.
const MOST_GRANT_FRAMES: u32 = 1024;
const MOST_MAPTRACK_FRAMES: u32 = 8192;
/// The highest version of grant tables that the guest may use: it may always be more than the one
/// that we have.
const GRANT_VERSIONS: RangeInclusive<u32> = 1..=2;

/// Makes a domain, with the number that the caller names or, if that is no ordinary one, the next
/// free one.
///
/// # Errors
/// `Inval` for a configuration that is not supported, `Exist` if the number is taken, `NoMem`.
pub(super) fn create(call: &Call<'_>, _dom0: Privileged, op: &mut abi::Domctl) -> Result<()> {
    let ask: abi::DomctlCreateDomain = op.u.view();
    let machine = call.machine();
    let info = machine.platform.info();
    let nested = ask.flags & abi::XEN_DOMCTL_CDF_HAP != 0;
    if (nested && !info.hap) || (!nested && !info.shadow) {
        return Err(Errno::Inval);
    }
    let config = check(&ask)?;
    let wish = DomainId(op.domain);
    let wish = (wish != DomainId::DOM0 && wish.is_ordinary()).then_some(wish);
    if !machine.frames.has_room(Claimant::Privileged) {
        return Err(Errno::NoMem);
    }
    let id = machine.free_domain_id(wish)?;
    let domain = machine.builder.create_domain(id, config, 0)?;
    if let Err(errno) = machine.insert(domain.clone()) {
        // Another call took the number meanwhile. What is new is empty and never ran: one step.
        let _gone = domain.destroy_step(usize::MAX);
        return Err(errno);
    }
    op.domain = id.0;
    Ok(())
}

/// Guests are PVH for now: hardware-virtualized, a local APIC and no other device.
fn check(ask: &abi::DomctlCreateDomain) -> Result<DomainConfig> {
    let needed = abi::XEN_DOMCTL_CDF_HVM;
    let known = needed
        | abi::XEN_DOMCTL_CDF_HAP
        | abi::XEN_DOMCTL_CDF_S3_INTEGRITY
        | abi::XEN_DOMCTL_CDF_OOS_OFF
        | abi::XEN_DOMCTL_CDF_XS_DOMAIN;
    let fits = ask.flags & needed == needed
        && ask.flags & !known == 0
        && ask.iommu_opts == 0
        && (1..=MAX_VCPUS).contains(&ask.max_vcpus)
        && GRANT_VERSIONS.contains(&ask.grant_opts)
        && ask.vmtrace_size == 0
        && ask.cpupool_id == 0
        && ask.arch.emulation_flags == abi::XEN_X86_EMU_LAPIC
        && ask.arch.misc_flags & !abi::XEN_X86_MSR_RELAXED == 0;
    if !fits {
        return Err(Errno::Inval);
    }
    Ok(DomainConfig {
        privileged: false,
        handle: ask.handle,
        ssid: ask.ssidref,
        flags: ask.flags,
        emulation: ask.arch.emulation_flags,
        max_vcpus: ask.max_vcpus,
        max_ports: ask.max_evtchn_port,
        max_grant_frames: limit(
            ask.max_grant_frames,
            DEFAULT_GRANT_FRAMES,
            MOST_GRANT_FRAMES,
        )?,
        max_maptrack_frames: limit(
            ask.max_maptrack_frames,
            DEFAULT_MAPTRACK_FRAMES,
            MOST_MAPTRACK_FRAMES,
        )?,
    })
}

/// Below zero stands for the default.
fn limit(wish: i32, default: u32, most: u32) -> Result<u32> {
    match u32::try_from(wish) {
        Err(_) => Ok(default),
        Ok(wish) if wish <= most => Ok(wish),
        Ok(_) => Err(Errno::Inval),
    }
}
