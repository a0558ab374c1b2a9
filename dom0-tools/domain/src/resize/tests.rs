//! Tests of this module.

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
    set_memory(fake, &mut fake.clone(), domain, mib, 96, true).map_err(|error| error.to_string())
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
    let mut set = |mib, force| set_memory(&fake, &mut store, domain, mib, 96, force);
    let error = set(31, false).expect_err("too little").to_string();
    assert!(
        error.contains("started with 32 MiB needs about 32 MiB"),
        "{error}"
    );
    assert!(error.contains("--force"), "{error}");
    set(31, true).expect("forced");
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
