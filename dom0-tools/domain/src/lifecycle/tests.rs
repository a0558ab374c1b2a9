//! Tests of this module.

use super::*;
use crate::testing::Fake;
use oxen_sys::hypercall::{CreateDomain, ShutdownReason};

fn one_domain() -> (Fake, DomId) {
    let fake = Fake::new(64);
    let domain = fake
        .create(&CreateDomain::pvh([3; 16], 1))
        .expect("a domain");
    let mut store = fake.clone();
    let change = |path: &str, value: &str| Change::Write {
        path: format!("/local/domain/{domain}/{path}"),
        value: value.into(),
    };
    store
        .apply(&[change("name", "demo"), change("control/shutdown", "")])
        .expect("the store");
    (fake, domain)
}

#[test]
fn found_by_name_and_by_number() {
    let (fake, domain) = one_domain();
    let mut store = fake.clone();
    assert_eq!(
        find(&fake, &mut store, "demo")
            .expect("by name")
            .info
            .domain,
        domain
    );
    assert_eq!(
        find(&fake, &mut store, &domain.to_string())
            .expect("by number")
            .uuid(),
        Uuid([3; 16])
    );
    let error = find(&fake, &mut store, "other")
        .expect_err("nobody")
        .to_string();
    assert!(error.contains("cannot find other"), "{error}");
}

#[test]
fn requests_reach_the_guest_or_are_refused() {
    let (fake, domain) = one_domain();
    let mut store = fake.clone();
    request(&fake, &mut store, domain, Request::Reboot).expect("it lives");
    assert_eq!(
        fake.node(&format!("/local/domain/{domain}/control/shutdown"))
            .as_deref(),
        Some("reboot")
    );
    assert!(request(&fake, &mut store, 0, Request::Poweroff).is_err());
    fake.ends(domain, ShutdownReason::Crash);
    assert!(request(&fake, &mut store, domain, Request::Reboot).is_err());
}

#[test]
fn dom0_keeps_the_name_it_has() {
    let mut fake = Fake::new(64);
    enter_dom0(&mut fake, Uuid::default()).expect("the store");
    assert_eq!(
        fake.node("/local/domain/0/name").as_deref(),
        Some("Domain-0")
    );
    fake.apply(&[Change::Write {
        path: "/local/domain/0/name".into(),
        value: "host".into(),
    }])
    .expect("the store");
    enter_dom0(&mut fake, Uuid::default()).expect("the store");
    assert_eq!(fake.node("/local/domain/0/name").as_deref(), Some("host"));
}
