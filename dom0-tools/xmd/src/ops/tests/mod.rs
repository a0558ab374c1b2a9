//! The daemon's work in the fakes: lives and ends, names, and a kill at any moment.

mod devices;
mod failures;
mod rig;

use super::*;
use crate::journal::State;
use oxen_domain::testing::Fake;
use oxen_domain::world::{Clock, Hypervisor, Store};
use oxen_sys::hypercall::ShutdownReason;
use rig::{Rig, Scratch, config, files, nothing_left};
use std::cell::RefCell;

#[test]
fn a_life_from_creation_to_poweroff() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    let made = rig.create(config(&scratch, "")).expect("it is created");
    assert!(!fake.state.borrow().domains[&made.domain].paused);
    assert_eq!(files(&scratch.0), 1);
    let error = rig
        .create(config(&scratch, ""))
        .expect_err("the name is taken")
        .to_string();
    assert!(error.contains("of that name"), "{error}");
    rig.perform(Op::Rename {
        domain: "demo".into(),
        name: "other".into(),
    })
    .expect("renamed");
    assert_eq!(rig.names(), ["other"]);
    rig.perform(Op::Pause {
        domain: "other".into(),
    })
    .expect("paused");
    assert!(fake.state.borrow().domains[&made.domain].paused);
    fake.ends(made.domain, ShutdownReason::Poweroff);
    rig.reap();
    nothing_left(&fake, &scratch, "after poweroff");
    let kinds = rig.events.borrow();
    assert!(
        matches!(
            kinds[..],
            [
                Event::Started { .. },
                Event::Ended { .. },
                Event::Gone { .. }
            ]
        ),
        "{kinds:?}"
    );
}

#[test]
fn a_reboot_keeps_name_and_uuid() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    let first = rig.create(config(&scratch, "")).expect("it is created");
    fake.ends(first.domain, ShutdownReason::Reboot);
    rig.reap();
    let domains = fake.domains().expect("the fake");
    assert_eq!(domains.len(), 1);
    assert_ne!(domains[0].domain, first.domain);
    assert_eq!(domains[0].handle, first.uuid.0);
    assert_eq!(rig.names(), ["demo"]);
    rig.reap();
    assert_eq!(
        fake.domains().expect("the fake").len(),
        1,
        "it is not restarted again"
    );
}

#[test]
fn rename_restart_keeps_the_dead_one() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    let first = rig
        .create(config(&scratch, "on_crash='rename-restart'"))
        .expect("it is created");
    fake.ends(first.domain, ShutdownReason::Crash);
    rig.reap();
    rig.reap();
    let mut names = rig.names();
    names.sort();
    assert_eq!(names, ["demo", "demo-1"]);
    assert_eq!(
        fake.node(&format!("/local/domain/{}/name", first.domain))
            .as_deref(),
        Some("demo-1")
    );
    rig.perform(Op::Destroy {
        domain: "demo-1".into(),
    })
    .expect("destroyed");
    rig.perform(Op::Destroy {
        domain: "demo".into(),
    })
    .expect("destroyed");
    nothing_left(&fake, &scratch, "after both are destroyed");
}

#[test]
fn preserve_and_suspend_leave_it_where_it_is() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    let made = rig
        .create(config(&scratch, "on_crash='preserve'"))
        .expect("it is created");
    fake.ends(made.domain, ShutdownReason::Suspend);
    rig.reap();
    rig.perform(Op::Resume {
        domain: "demo".into(),
    })
    .expect("it goes on");
    assert!(
        rig.perform(Op::Resume {
            domain: "demo".into()
        })
        .is_err(),
        "it runs"
    );
    fake.ends(made.domain, ShutdownReason::Crash);
    rig.reap();
    rig.reap();
    assert_eq!(fake.domains().expect("the fake").len(), 1);
    assert_eq!(rig.events.borrow().len(), 2, "its end is told once");
    rig.perform(Op::Destroy {
        domain: "demo".into(),
    })
    .expect("destroyed");
    nothing_left(&fake, &scratch, "after destroy");
}

#[test]
fn domain_0_is_not_touched_and_strangers_are() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    let want = oxen_sys::hypercall::CreateDomain::pvh([9; 16], 1);
    let stranger = fake.create(&want).expect("another toolstack's");
    assert!(rig.perform(Op::Destroy { domain: "0".into() }).is_err());
    rig.reap();
    assert_eq!(
        fake.domains().expect("the fake").len(),
        1,
        "not ours to reap"
    );
    rig.perform(Op::Destroy {
        domain: stranger.to_string(),
    })
    .expect("asked for by number");
    nothing_left(&fake, &scratch, "after destroy");
}

#[test]
fn a_bad_kernel_leaves_nothing() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    std::fs::write(scratch.0.join("kernel"), b"no kernel").expect("a file");
    let error = rig
        .create(config(&scratch, ""))
        .expect_err("no kernel")
        .to_string();
    assert!(
        error.contains("neither a bzImage nor an ELF image"),
        "{error}"
    );
    nothing_left(&fake, &scratch, "after a bad kernel");
    assert!(rig.names().is_empty());
}

#[test]
fn a_failure_at_any_call_leaves_nothing() {
    for call in 0.. {
        let (scratch, fake) = (Scratch::new(), Fake::new(256));
        let (rig, _) = Rig::start(&scratch, &fake);
        fake.fail_at(call);
        let made = rig.create(config(&scratch, ""));
        if !fake.has_failed() {
            made.expect("no call failed any more");
            return;
        }
        let error = made.expect_err("a call failed");
        nothing_left(&fake, &scratch, &format!("call {call}: {error}"));
    }
}

#[test]
fn a_restart_adopts_what_runs() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let made = Rig::start(&scratch, &fake)
        .0
        .create(config(&scratch, ""))
        .expect("it is created");
    let (rig, restart) = Rig::start(&scratch, &fake);
    assert!(restart.is_empty());
    assert_eq!(fake.domains().expect("the fake").len(), 1);
    fake.ends(made.domain, ShutdownReason::Poweroff);
    rig.reap();
    nothing_left(&fake, &scratch, "after poweroff");
}

#[test]
fn a_restart_undoes_what_was_half_built() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let made = Rig::start(&scratch, &fake)
        .0
        .create(config(&scratch, ""))
        .expect("it is created");
    // As if the kill had come before the last step, with and without the number noted.
    for number in [Some(made.domain), None] {
        if number.is_none() {
            Rig::start(&scratch, &fake)
                .0
                .create(config(&scratch, ""))
                .expect("it is created");
        }
        let (mut entries, _) = scratch.journal().read().expect("the journal");
        let mut entry = entries.pop().expect("one entry");
        entry.state = State::Building;
        entry.domain = number;
        scratch.journal().write(&entry).expect("the journal");
        let (_, restart) = Rig::start(&scratch, &fake);
        assert!(restart.is_empty());
        nothing_left(&fake, &scratch, "after the restart");
    }
}

#[test]
fn a_restart_finishes_a_start_and_a_restart() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let made = Rig::start(&scratch, &fake)
        .0
        .create(config(&scratch, ""))
        .expect("it is created");
    let note = |state| {
        let (mut entries, _) = scratch.journal().read().expect("the journal");
        let mut entry = entries.pop().expect("one entry");
        entry.state = state;
        scratch.journal().write(&entry).expect("the journal");
    };
    fake.pause(made.domain).expect("the fake");
    note(State::Starting);
    Rig::start(&scratch, &fake);
    assert!(!fake.state.borrow().domains[&made.domain].paused);
    note(State::Restarting);
    let (rig, restart) = Rig::start(&scratch, &fake);
    assert_eq!(restart.len(), 1);
    for uuid in restart {
        rig.run(|context| context.restart_unfinished(uuid))
            .expect("it is built");
    }
    assert_eq!(fake.domains().expect("the fake").len(), 1);
    assert_eq!(rig.names(), ["demo"]);
}

#[test]
fn a_restart_removes_nodes_of_the_dead() {
    let (scratch, mut fake) = (Scratch::new(), Fake::new(256));
    let made = Rig::start(&scratch, &fake)
        .0
        .create(config(&scratch, ""))
        .expect("it is created");
    fake.destroy(made.domain).expect("behind the daemon's back");
    fake.apply(&[oxen_domain::world::Change::Write {
        path: "/local/domain/77/name".into(),
        value: "x".into(),
    }])
    .expect("the store");
    Rig::start(&scratch, &fake);
    nothing_left(&fake, &scratch, "after the restart");
}

#[test]
fn a_guest_whose_card_cannot_be_had_is_not_made() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    for (vifs, cause) in [
        ("'gatewaydev=eth0'", "routed networks"),
        ("'','','','','','','','',''", "8 already"),
        ("'devid=1','devid=1'", "number 1 already"),
    ] {
        let config = config(&scratch, &format!("vif=[{vifs}]"));
        let error = rig.create(config).expect_err(vifs).to_string();
        assert!(error.contains(cause), "{error}");
        nothing_left(&fake, &scratch, vifs);
    }
}

#[test]
fn a_guest_whose_disk_cannot_be_had_is_not_made() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    let config = config(&scratch, "disk=['/no/such/image,raw,xvda']");
    let error = rig.create(config).expect_err("no image").to_string();
    assert!(error.contains("/no/such/image"), "{error}");
    nothing_left(&fake, &scratch, "after a missing image");
}

#[test]
fn a_dead_domain_that_lingers_holds_neither_name_nor_uuid() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    let config = config(&scratch, "uuid='01234567-89ab-cdef-0123-456789abcdef'");
    rig.create(config.clone()).expect("it is created");
    fake.linger.set(true);
    let mut warnings = 0;
    let destroy = Op::Destroy {
        domain: "demo".into(),
    };
    rig.run(|context| context.perform(destroy, &mut |_| warnings += 1))
        .expect("it is dead");
    assert_eq!(warnings, 1);
    assert!(rig.names().is_empty());
    let again = rig.create(config).expect("name and uuid are free");
    // And a restart of the daemon takes the living one for its own.
    let (rig, _) = Rig::start(&scratch, &fake);
    fake.linger.set(false);
    fake.ends(again.domain, ShutdownReason::Poweroff);
    rig.reap();
    assert!(rig.names().is_empty());
    assert_eq!(files(&scratch.0), 0);
}

/// While somebody waits, the domain's end is finished.
struct Reaper<'a> {
    rig: &'a Rig,
    end: RefCell<Option<crate::manager::Work>>,
}

impl Clock for Reaper<'_> {
    fn sleep(&self, _: core::time::Duration) {
        if let Some(end) = self.end.take() {
            self.rig
                .run(|context| context.finish(&end))
                .expect("its end");
        }
    }
}

#[test]
fn who_destroys_or_creates_waits_for_an_end_under_way() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    let ended = || {
        let made = rig.create(config(&scratch, "")).expect("it is created");
        fake.ends(made.domain, ShutdownReason::Crash);
        let end = rig.run(|context| context.look()).expect("the hypervisor");
        let end = RefCell::new(end.into_iter().next());
        Reaper { rig: &rig, end }
    };
    let clock = ended();
    let destroyed = rig.run_by(&clock, |context| {
        let domain = "demo".to_owned();
        context.perform(Op::Destroy { domain }, &mut |_| {})
    });
    assert_eq!(destroyed.expect("it is gone")["name"], "demo");
    nothing_left(&fake, &scratch, "after the destruction");
    let clock = ended();
    let created = rig.run_by(&clock, |context| {
        context.create(config(&scratch, ""), false, &mut |_| {})
    });
    created.expect("its name is free");
    assert_eq!(rig.names(), ["demo"]);
    // An end that nobody finishes is reported.
    let domain = fake.domains().expect("the fake")[0].domain;
    fake.ends(domain, ShutdownReason::Crash);
    rig.run(|context| context.look()).expect("the hypervisor");
    let error = rig
        .create(config(&scratch, ""))
        .expect_err("a driver hangs");
    assert!(
        error.to_string().contains("still being taken down"),
        "{error}"
    );
}
