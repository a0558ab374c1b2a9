//! One call fails, anywhere: no end is forgotten, no domain lost, and the daemon starts.

use super::rig::{Rig, Scratch, config, files, nothing_left};
use crate::journal::State;
use crate::log::Log;
use crate::manager::Work;
use crate::ops::Context;
use crate::recover::recover;
use oxen_config::DomainConfig;
use oxen_domain::testing::Fake;
use oxen_domain::world::World;
use oxen_domain::world::{Clock, DomId, Hypervisor};
use oxen_sys::hypercall::ShutdownReason;
use xmd_api::Op;

fn other(scratch: &Scratch, more: &str) -> DomainConfig {
    let mut other = config(scratch, more);
    other.name = "other".into();
    other
}

/// Rounds of the watcher until everything that failed once has been tried again.
fn settle(rig: &Rig) {
    for _ in 0..3 {
        for work in rig.run(|context| context.look()).expect("the hypervisor") {
            rig.run(|context| context.finish(&work))
                .expect("nothing fails any more");
        }
    }
}

/// The names of the domains that the hypervisor has, as the store has them.
fn guests(fake: &Fake) -> Vec<String> {
    let domains = fake.domains().expect("the fake");
    let name = |domain: DomId| fake.node(&format!("/local/domain/{domain}/name"));
    let mut names: Vec<_> = domains
        .iter()
        .filter_map(|info| name(info.domain))
        .collect();
    names.sort();
    names
}

#[test]
fn two_ends_and_a_journal_that_refuses_the_second_are_both_finished() {
    for actions in ["", "on_poweroff='restart'", "on_poweroff='rename-restart'"] {
        let (scratch, fake) = (Scratch::new(), Fake::new(256));
        let (rig, _) = Rig::start(&scratch, &fake);
        let one = rig.create(config(&scratch, actions)).expect("one");
        let two = rig.create(other(&scratch, actions)).expect("two");
        fake.ends(one.domain, ShutdownReason::Poweroff);
        fake.ends(two.domain, ShutdownReason::Poweroff);
        // Entries are looked at by uuid; the file system refuses the later one, as by ENOSPC or
        // EIO.
        let later = one.uuid.max(two.uuid);
        let block = scratch.0.join("journal").join(format!("{later}.new"));
        std::fs::create_dir(&block).expect("a directory in the way");
        rig.reap();
        std::fs::remove_dir(&block).expect("out of the way");
        settle(&rig);
        match actions {
            "" => nothing_left(&fake, &scratch, "after both ends"),
            "on_poweroff='restart'" => assert_eq!(guests(&fake), ["demo", "other"]),
            _ => assert_eq!(guests(&fake), ["demo", "demo-1", "other", "other-1"]),
        }
    }
}

#[test]
fn a_full_file_system_keeps_no_guest_from_being_destroyed() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    let made = rig.create(config(&scratch, "")).expect("it is created");
    let block = scratch.0.join("journal").join(format!("{}.new", made.uuid));
    std::fs::create_dir(&block).expect("a directory in the way");
    let domain = "demo".to_owned();
    rig.perform(Op::Destroy { domain })
        .expect("it is destroyed");
    std::fs::remove_dir(&block).expect("out of the way");
    nothing_left(&fake, &scratch, "after it was destroyed");
}

#[test]
fn an_end_whose_taking_down_fails_at_any_call_is_finished_later() {
    let ends = [
        ("", ShutdownReason::Poweroff, &[][..]),
        ("", ShutdownReason::Reboot, &["demo"][..]),
        (
            "on_crash='rename-restart'",
            ShutdownReason::Crash,
            &["demo", "demo-1"],
        ),
        ("on_crash='preserve'", ShutdownReason::Crash, &["demo"]),
    ];
    for (actions, reason, left) in ends {
        for call in 0.. {
            let (scratch, fake) = (Scratch::new(), Fake::new(256));
            let (rig, _) = Rig::start(&scratch, &fake);
            let made = rig.create(config(&scratch, actions)).expect("one");
            fake.ends(made.domain, reason);
            fake.fail_at(call);
            if let Ok(work) = rig.run(|context| context.look()) {
                for work in work {
                    let _ = rig.run(|context| context.finish(&work));
                }
            }
            let failed = fake.fail_no_more();
            settle(&rig);
            assert_eq!(guests(&fake), left, "{actions}: call {call}");
            assert_eq!(files(&scratch.0), left.len(), "{actions}: call {call}");
            if left.is_empty() {
                nothing_left(&fake, &scratch, &format!("{actions}: call {call}"));
            }
            if !failed {
                break;
            }
        }
    }
}

#[test]
fn a_guest_that_cannot_be_built_again_is_tried_again() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    let made = rig.create(config(&scratch, "")).expect("one");
    let kernel = scratch.0.join("kernel");
    let away = scratch.0.join("away");
    std::fs::rename(&kernel, &away).expect("the kernel is gone for a while");
    fake.ends(made.domain, ShutdownReason::Reboot);
    let mut tries = 0;
    for _ in 0..100 {
        for work in rig.run(|context| context.look()).expect("the hypervisor") {
            tries += 1;
            rig.run(|context| context.finish(&work))
                .expect_err("there is no kernel");
        }
    }
    // Less and less often.
    assert!((5..12).contains(&tries), "{tries}");
    assert!(guests(&fake).is_empty());
    let list = rig.perform(Op::List).expect("the entries");
    assert_eq!(list[0]["name"], "demo");
    let cause = list[0]["broken"].as_str().expect("why");
    assert!(cause.contains("No such file"), "{cause}");
    std::fs::rename(&away, &kernel).expect("it is back");
    for _ in 0..32 {
        rig.reap();
    }
    assert_eq!(guests(&fake), ["demo"]);
    assert!(rig.perform(Op::List).expect("the entries")[0]["broken"].is_null());
}

/// A guest whose kernel went away while it ran, and which has requested a restart.
fn broken(scratch: &Scratch, fake: &Fake) -> Rig {
    let (rig, _) = Rig::start(scratch, fake);
    let made = rig.create(config(scratch, "")).expect("one");
    std::fs::rename(scratch.0.join("kernel"), scratch.0.join("away")).expect("gone");
    fake.ends(made.domain, ShutdownReason::Reboot);
    for work in rig.run(|context| context.look()).expect("the hypervisor") {
        rig.run(|context| context.finish(&work))
            .expect_err("there is no kernel");
    }
    rig
}

#[test]
fn what_waits_to_be_tried_again_can_be_destroyed_or_created_anew() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let rig = broken(&scratch, &fake);
    let domain = "demo".to_owned();
    rig.perform(Op::Destroy { domain }).expect("it is gone");
    nothing_left(&fake, &scratch, "after it was destroyed");
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let rig = broken(&scratch, &fake);
    std::fs::rename(scratch.0.join("away"), scratch.0.join("kernel")).expect("back");
    rig.create(config(&scratch, "memory=48"))
        .expect("its name is free");
    settle(&rig);
    assert_eq!((guests(&fake).len(), files(&scratch.0)), (1, 1));
}

#[test]
fn destroy_takes_over_an_end_that_nobody_works_at() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    let made = rig.create(config(&scratch, "")).expect("one");
    fake.ends(made.domain, ShutdownReason::Poweroff);
    let work = rig.run(|context| context.look()).expect("the hypervisor");
    fake.fail_at(1);
    for work in work {
        rig.run(|context| context.finish(&work))
            .expect_err("a call fails");
    }
    let domain = made.domain.to_string();
    rig.perform(Op::Destroy { domain }).expect("at once");
    nothing_left(&fake, &scratch, "after it was destroyed");
}

#[test]
fn a_number_that_is_another_domains_by_now_is_left_alone() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    let made = rig.create(config(&scratch, "")).expect("one");
    fake.destroy(made.domain).expect("behind the daemon's back");
    let work = rig.run(|context| context.look()).expect("the hypervisor");
    let stranger = oxen_sys::hypercall::CreateDomain::pvh([9; 16], 1);
    let number = fake.create(&stranger).expect("another toolstack's");
    {
        let mut state = fake.state.borrow_mut();
        let taken = state.domains.remove(&number).expect("it");
        state.domains.insert(made.domain, taken);
    }
    for work in work {
        rig.run(|context| context.finish(&work)).expect("its end");
    }
    assert_eq!(
        fake.domains().expect("the fake").len(),
        1,
        "the stranger is gone"
    );
    assert_eq!(files(&scratch.0), 0);
}

/// Somebody destroys the domain while it is being built: at its first moment of waiting.
struct Impatient<'a>(&'a Rig, std::cell::Cell<bool>);

impl Clock for Impatient<'_> {
    fn sleep(&self, _: core::time::Duration) {
        if !self.1.replace(true) {
            let uuid = self
                .0
                .manager
                .lock()
                .expect("no panic")
                .entries()
                .next()
                .map(|it| it.uuid);
            let claim = self
                .0
                .manager
                .lock()
                .expect("no panic")
                .claim(uuid.expect("an entry"));
            assert_eq!(claim, crate::manager::Claim::Busy);
        }
    }
}

#[test]
fn what_is_being_built_gives_up_when_it_is_destroyed() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    let mut destroyed = None;
    let created = rig.run(|context| {
        context.create(config(&scratch, ""), false, &mut |event| {
            if matches!(event, xmd_api::Event::Progress { .. }) && destroyed.is_none() {
                // As another client's thread would, while this one builds.
                let impatient = Impatient(&rig, std::cell::Cell::new(false));
                impatient.sleep(core::time::Duration::ZERO);
                destroyed = Some(());
            }
        })
    });
    let error = created.expect_err("nobody wants it").to_string();
    assert!(
        error.contains("destroyed while it was being built"),
        "{error}"
    );
    nothing_left(&fake, &scratch, "after that");
}

#[test]
fn a_restart_that_is_given_up_does_not_come_back() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    let made = rig.create(config(&scratch, "")).expect("one");
    fake.ends(made.domain, ShutdownReason::Reboot);
    for work in rig.run(|context| context.look()).expect("the hypervisor") {
        let claim = rig.manager.lock().expect("no panic").claim(made.uuid);
        assert_eq!(claim, crate::manager::Claim::Busy);
        rig.run(|context| context.finish(&work))
            .expect_err("given up");
    }
    settle(&rig);
    nothing_left(&fake, &scratch, "after that");
}

#[test]
fn a_kill_in_the_middle_of_a_restart_does_not_end_the_guest() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    let made = rig.create(config(&scratch, "")).expect("one");
    fake.ends(made.domain, ShutdownReason::Reboot);
    // Whatever the journal holds at a step of the restart, a daemon that starts from there builds
    // it.
    let mut journals = Vec::new();
    for work in rig.run(|context| context.look()).expect("the hypervisor") {
        let mut keep = || journals.push(scratch.journal().read().expect("the journal").0);
        keep();
        rig.run(|context: &mut Context<'_>| {
            let manager = context.manager;
            let finished = context.finish(&work);
            assert!(!manager.lock().expect("no panic").is_held(made.uuid));
            finished
        })
        .expect("it is built");
        keep();
    }
    for entries in journals {
        let (scratch, fake) = (Scratch::new(), Fake::new(256));
        for mut entry in entries {
            entry.config.kernel = scratch.0.join("kernel").display().to_string();
            let running = entry.state == State::Running;
            scratch.journal().write(&entry).expect("the journal");
            let (rig, restart) = Rig::start(&scratch, &fake);
            for uuid in restart {
                rig.run(|context| context.restart_unfinished(uuid))
                    .expect("it is built");
            }
            // One that ran is gone with the machine of this test.
            assert_eq!(guests(&fake).len(), usize::from(!running));
        }
    }
}

#[test]
fn one_failing_call_does_not_keep_the_daemon_from_starting() {
    for state in [
        State::Starting,
        State::Running,
        State::Building,
        State::Ending,
        State::Restarting,
    ] {
        let expected: &[&str] = match state {
            State::Building | State::Ending => &["other"],
            _ => &["demo", "other"],
        };
        for call in 0.. {
            let (scratch, fake) = (Scratch::new(), Fake::new(256));
            let (rig, _) = Rig::start(&scratch, &fake);
            let one = rig.create(config(&scratch, "")).expect("one");
            rig.create(other(&scratch, "")).expect("two");
            let set = rig
                .manager
                .lock()
                .expect("no panic")
                .set_state(one.uuid, state);
            set.expect("noted");
            drop(rig);
            fake.fail_at(call);
            let log = Log::open(&scratch.0.join("log"), false);
            let mut store = fake.clone();
            let mut world = World {
                hypervisor: &fake,
                store: &mut store,
                clock: &fake,
            };
            let recovered = recover(&mut world, scratch.journal(), &log);
            let failed = fake.fail_no_more();
            let (manager, restart) =
                recovered.unwrap_or_else(|error| panic!("{state:?}: call {call}: {error}"));
            let rig = Rig::with(&scratch, &fake, manager);
            for uuid in restart {
                rig.run(|context| context.restart_unfinished(uuid))
                    .expect("it is built");
            }
            settle(&rig);
            assert_eq!(guests(&fake), expected, "{state:?}: call {call}");
            assert_eq!(files(&scratch.0), expected.len(), "{state:?}: call {call}");
            if !failed {
                break;
            }
        }
    }
}

#[test]
fn an_entry_that_stays_broken_leaves_the_others_alone() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = Rig::start(&scratch, &fake);
    let one = rig.create(config(&scratch, "")).expect("one");
    let two = rig.create(other(&scratch, "")).expect("two");
    let set = rig
        .manager
        .lock()
        .expect("no panic")
        .set_state(one.uuid, State::Starting);
    set.expect("noted");
    drop(rig);
    // It cannot be noted as running, however often that is tried.
    let block = scratch.0.join("journal").join(format!("{}.new", one.uuid));
    std::fs::create_dir(&block).expect("a directory in the way");
    let (rig, _) = Rig::start(&scratch, &fake);
    assert!(rig.perform(Op::List).expect("the entries")[0]["broken"].is_string());
    fake.ends(two.domain, ShutdownReason::Poweroff);
    for _ in 0..10 {
        for work in rig.run(|context| context.look()).expect("the hypervisor") {
            let finished = rig.run(|context| context.finish(&work));
            assert_eq!(finished.is_ok(), matches!(work, Work::End(_)));
        }
    }
    assert_eq!(guests(&fake), ["demo"]);
    std::fs::remove_dir(&block).expect("out of the way");
    for _ in 0..32 {
        rig.reap();
    }
    assert!(rig.perform(Op::List).expect("the entries")[0]["broken"].is_null());
}
