//! More or less memory and vcpus for a domain that runs. Both are requests that its kernel fulfils:
//! the balloon driver follows `memory/target`, CPU hotplug follows `cpu/N/availability`. The
//! hypervisor enforces the limits.

use crate::layout::{MIB, PAGE};
use crate::nodes;
use crate::world::{Change, DomId, Hypervisor, Store, explain};
use crate::{Error, Result};
use oxen_sys::hypercall::DomainInfo;

/// Memory beyond the guest's own: special pages and tables.
const EXTRA_KIB: u64 = 1024;

/// The hypervisor's limit for a domain with so much memory.
#[must_use]
pub fn limit_kib(mib: u32) -> u64 {
    u64::from(mib) * 1024 + EXTRA_KIB
}

/// The least memory with which a stock kernel survives that was started with `started_mib`: its
/// own, that of its first programs, and its tables for all the memory that it saw. With less the
/// kernel kills processes, and panics at last.
#[must_use]
pub fn least_mib(started_mib: u64) -> u64 {
    started_mib.min(64 + started_mib / 32)
}

/// Whether a domain has reached its target, as exactly as a balloon driver does.
#[must_use]
pub fn is_reached(info: &DomainInfo, mib: u32) -> bool {
    (info.tot_pages / (MIB / PAGE)).abs_diff(mib.into()) <= 1
}

/// Requests a domain to reduce its memory to `mib`, or to grow to it; the domain can have no more
/// from then on. A target below [`least_mib`] needs `force`.
///
/// # Errors
/// `Error` if the domain cannot have so much, would not survive with so little, or has ended.
/// Nothing has changed then.
pub fn set_memory(
    hypervisor: &dyn Hypervisor,
    store: &mut dyn Store,
    domain: DomId,
    mib: u32,
    max_mib: u32,
    force: bool,
) -> Result<()> {
    let what = format!("cannot set the memory of domain {domain} to {mib} MiB");
    let info = living(hypervisor, domain, &what, DOM0_MEMORY)?;
    if mib > max_mib {
        let cause = format!("its maxmem is {max_mib} MiB");
        return Err(Error::new(what, cause).remedy("raise that first with xm mem-max"));
    }
    let now = target(store, domain, &what)?;
    let started = started(store, domain)?.unwrap_or(now) / 1024;
    let least = least_mib(started);
    if !force && u64::from(mib) < least && u64::from(mib) * 1024 < now {
        let cause = format!(
            "a guest that was started with {started} MiB needs about {least} MiB to stay alive"
        );
        return Err(Error::new(what, cause).remedy("--force if you know that it needs less"));
    }
    check_free(hypervisor, &info, mib, &what)?;
    let set = hypervisor.set_max_mem(domain, limit_kib(mib));
    set.map_err(|errno| explain(&what, errno))?;
    let told = store.apply(&[Change::Write {
        path: target_path(domain),
        value: (u64::from(mib) * 1024).to_string(),
    }]);
    if told.is_err() {
        let _ = hypervisor.set_max_mem(domain, info.max_pages.saturating_mul(PAGE / 1024));
    }
    told
}

fn check_free(hypervisor: &dyn Hypervisor, info: &DomainInfo, mib: u32, what: &str) -> Result<()> {
    let more = (u64::from(mib) * MIB).saturating_sub(info.tot_pages.saturating_mul(PAGE));
    let free = hypervisor
        .free_memory()
        .map_err(|errno| explain(what, errno))?;
    if more <= free {
        return Ok(());
    }
    let cause = format!(
        "it takes {} MiB more, and {} MiB are free",
        more / MIB,
        free / MIB
    );
    Err(Error::new(what, cause).remedy("give others less first (xm mem-set), or end some"))
}

/// Changes the most memory that a domain may be given.
///
/// # Errors
/// `Error` if the domain's target is higher, or if the domain has ended.
pub fn set_max_memory(
    hypervisor: &dyn Hypervisor,
    store: &mut dyn Store,
    domain: DomId,
    mib: u32,
) -> Result<()> {
    let what = format!("cannot limit the memory of domain {domain} to {mib} MiB");
    living(hypervisor, domain, &what, DOM0_MEMORY)?;
    let now = target(store, domain, &what)?;
    if u64::from(mib) * 1024 < now {
        let cause = format!("it is meant to have {} MiB now", now / 1024);
        return Err(Error::new(what, cause).remedy("give it less first, with xm mem-set"));
    }
    hypervisor
        .set_max_mem(domain, limit_kib(mib))
        .map_err(|errno| explain(what, errno))
}

/// Requests a domain to run on its first `count` vcpus. Returns how many it has.
///
/// # Errors
/// `Error` if the domain has fewer vcpus, or if the domain has ended.
pub fn set_vcpus(
    hypervisor: &dyn Hypervisor,
    store: &mut dyn Store,
    domain: DomId,
    count: u32,
) -> Result<u32> {
    let what = format!("cannot have domain {domain} run on {count} vcpus");
    let info = living(
        hypervisor,
        domain,
        &what,
        "write 0 or 1 to /sys/devices/system/cpu/cpuN/online in it",
    )?;
    let most = info.max_vcpu_id.saturating_add(1);
    if count == 0 || count > most {
        let cause = format!("it has 1 to {most} (maxvcpus)");
        return Err(Error::new(what, cause).remedy("maxvcpus can be set when it is created only"));
    }
    let states: Vec<Change> = (0..most)
        .map(|vcpu| Change::Write {
            path: format!("{}/cpu/{vcpu}/availability", nodes::home(domain)),
            value: if vcpu < count { "online" } else { "offline" }.to_owned(),
        })
        .collect();
    store.apply(&states)?;
    Ok(most)
}

const DOM0_MEMORY: &str = "its memory is fixed at boot: dom0_mem= on the hypervisor's command line";

/// The domain, if it is a guest that has not ended.
fn living(
    hypervisor: &dyn Hypervisor,
    domain: DomId,
    what: &str,
    dom0: &str,
) -> Result<DomainInfo> {
    if domain == 0 {
        return Err(Error::new(what, "it is the privileged domain").remedy(dom0));
    }
    let info = hypervisor.info(domain);
    let info = info.map_err(|errno| explain(what, errno))?;
    if info.dying() || info.shutdown().is_some() {
        return Err(Error::new(what, "it has ended already"));
    }
    Ok(info)
}

fn target_path(domain: DomId) -> String {
    format!("{}/memory/target", nodes::home(domain))
}

/// The memory target of the domain, in KiB.
fn target(store: &mut dyn Store, domain: DomId, what: &str) -> Result<u64> {
    let text = store.read(&target_path(domain))?;
    text.and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| Error::new(what, "the store has no memory/target for it"))
}

/// The memory with which the domain was started, in KiB.
///
/// # Errors
/// `Error` of the store.
pub fn started(store: &mut dyn Store, domain: DomId) -> Result<Option<u64>> {
    let text = store.read(&format!("{}/memory/static-max", nodes::home(domain)))?;
    Ok(text.and_then(|text| text.trim().parse().ok()))
}

#[cfg(test)]
mod tests;
