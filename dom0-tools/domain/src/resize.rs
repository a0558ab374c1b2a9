//! More or less memory and vcpus for a domain that runs. Both are wishes that its kernel fulfils:
//! the balloon driver follows `memory/target`, CPU hotplug follows `cpu/N/availability`. What it
//! may have at most is the hypervisor's to keep.

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

/// Whether a domain has what it is meant to have, as far as a balloon driver keeps to it.
#[must_use]
pub fn is_reached(info: &DomainInfo, mib: u32) -> bool {
    (info.tot_pages / (MIB / PAGE)).abs_diff(mib.into()) <= 1
}

/// Asks a domain to get along with `mib`, or to take up to so much; it can have no more from then
/// on. Less than [`least_mib`] has to be meant.
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
    meant: bool,
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
    if !meant && u64::from(mib) < least && u64::from(mib) * 1024 < now {
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

/// Changes how much a domain may ever be given.
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

/// Asks a domain to run on its first `count` vcpus. Returns how many it has.
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
mod tests {
    use super::*;
    use crate::testing::Fake;
    use oxen_sys::hypercall::{CreateDomain, Extents, ShutdownReason};

    /// A domain of 32 MiB with three vcpus on a machine with 64.
    fn one() -> (Fake, DomId) {
        let fake = Fake::new(64);
        let domain = fake.create(&CreateDomain::pvh([1; 16], 3)).expect("one");
        fake.set_max_vcpus(domain, 3).expect("vcpus");
        let frames: Vec<u64> = (0..32 * 256).collect();
        let extents = Extents {
            frames: &frames,
            order: 0,
            flags: 0,
        };
        fake.set_max_mem(domain, limit_kib(32)).expect("a limit");
        assert_eq!(fake.populate(domain, extents), Ok(32 * 256));
        let mut store = fake.clone();
        let target = Change::Write {
            path: target_path(domain),
            value: (32 * 1024).to_string(),
        };
        store.apply(&[target]).expect("a store");
        (fake, domain)
    }

    fn memory(fake: &Fake, domain: DomId, mib: u32) -> core::result::Result<(), String> {
        set_memory(fake, &mut fake.clone(), domain, mib, 96, true)
            .map_err(|error| error.to_string())
    }

    fn found(fake: &Fake, domain: DomId) -> (u64, String) {
        let limit = fake.state.borrow().domains[&domain].max_kib;
        (limit, fake.node(&target_path(domain)).unwrap_or_default())
    }

    #[test]
    fn target_and_limit_go_together() {
        let (fake, domain) = one();
        memory(&fake, domain, 16).expect("less");
        assert_eq!(found(&fake, domain), (17 * 1024, (16 * 1024).to_string()));
        memory(&fake, domain, 64).expect("32 more of 32 free");
        assert_eq!(found(&fake, domain), (65 * 1024, (64 * 1024).to_string()));
        let error = memory(&fake, domain, 65).expect_err("one too many");
        assert!(
            error.contains("33 MiB more, and 32 MiB are free"),
            "{error}"
        );
        let error = memory(&fake, domain, 97).expect_err("beyond maxmem");
        assert!(error.contains("maxmem is 96 MiB"), "{error}");
        assert_eq!(found(&fake, domain), (65 * 1024, (64 * 1024).to_string()));
        assert!(memory(&fake, 0, 64).expect_err("dom0").contains("dom0_mem"));
    }

    #[test]
    fn less_than_keeps_a_guest_alive_has_to_be_meant() {
        assert_eq!(
            [16, 64, 65, 256, 1024, 65536].map(least_mib),
            [16, 64, 65, 72, 96, 2112]
        );
        let (fake, domain) = one();
        let mut store = fake.clone();
        let mut set = |mib, meant| set_memory(&fake, &mut store, domain, mib, 96, meant);
        let error = set(31, false).expect_err("too little").to_string();
        assert!(
            error.contains("started with 32 MiB needs about 32 MiB"),
            "{error}"
        );
        assert!(error.contains("--force"), "{error}");
        set(31, true).expect("it is meant");
        // What is more than it has now is no danger.
        set(32, false).expect("more");
        assert_eq!(found(&fake, domain).1, (32 * 1024).to_string());
    }

    #[test]
    fn a_target_is_reached_when_the_domain_has_it() {
        let (fake, domain) = one();
        let reached = |mib| is_reached(&fake.info(domain).expect("it"), mib);
        assert_eq!(
            [30, 31, 32, 33, 34].map(reached),
            [false, true, true, true, false]
        );
    }

    #[test]
    fn the_limit_is_not_less_than_the_target() {
        let (fake, domain) = one();
        let mut store = fake.clone();
        set_max_memory(&fake, &mut store, domain, 48).expect("more");
        assert_eq!(found(&fake, domain).0, 49 * 1024);
        let error = set_max_memory(&fake, &mut store, domain, 31).expect_err("less");
        assert!(error.to_string().contains("have 32 MiB now"), "{error}");
    }

    #[test]
    fn the_first_vcpus_are_online() {
        let (fake, domain) = one();
        let mut store = fake.clone();
        assert_eq!(set_vcpus(&fake, &mut store, domain, 2), Ok(3));
        let state = |vcpu| fake.node(&format!("{}/cpu/{vcpu}/availability", nodes::home(domain)));
        assert_eq!(
            [0, 1, 2].map(|vcpu| state(vcpu).unwrap_or_default()),
            ["online", "online", "offline"]
        );
        for count in [0, 4] {
            let error = set_vcpus(&fake, &mut store, domain, count).expect_err("no such number");
            assert!(error.to_string().contains("1 to 3"), "{error}");
        }
        fake.ends(domain, ShutdownReason::Crash);
        assert!(set_vcpus(&fake, &mut store, domain, 1).is_err());
    }
}
