//! Devices that come while a guest runs, and are refused: by dom0's driver, by the guest's, by the
//! store.

use super::rig::{Rig, Scratch, config};
use crate::journal::Entry;
use oxen_config::DiskSpec;
use oxen_devices::{Device, Guest, Kind, Nodes, Spec};
use oxen_domain::Result;
use oxen_domain::testing::{Fake, State as World};
use oxen_domain::world::{Access, Store};
use std::cell::Cell;
use xmd_api::{Event, Op, Subject};

const ID: u32 = 51728;

thread_local! {
    /// How many devices hold what they claimed.
    static HELD: Cell<u32> = const { Cell::new(0) };
}

/// A disk that holds one thing until it is dropped.
struct Dummy(bool);

impl Dummy {
    #[expect(clippy::unnecessary_wraps, reason = "as Spec::device")]
    fn of(_: &Spec) -> Result<Box<dyn Device>> {
        Ok(Box::new(Self(false)))
    }
}

impl Drop for Dummy {
    fn drop(&mut self) {
        HELD.set(HELD.get() - u32::from(self.0));
    }
}

impl Device for Dummy {
    fn kind(&self) -> Kind {
        Kind::Vbd
    }

    fn id(&self) -> u32 {
        ID
    }

    fn claim(&mut self, _: &Guest<'_>, _: &mut dyn Store) -> Result<Nodes> {
        self.0 = true;
        HELD.set(HELD.get() + 1);
        Ok(Nodes {
            warnings: vec!["it is a dummy".into()],
            ..Nodes::default()
        })
    }

    fn plug(&mut self, _: &Guest<'_>) -> Result<Vec<(&'static str, String)>> {
        Ok(Vec::new())
    }

    fn is_plugged(&mut self, _: &Guest<'_>) -> bool {
        true
    }
}

/// The behaviour of the guest's driver for a disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Driver {
    Takes,
    Refuses,
    IsNotThere,
}

/// One step of dom0's driver, or of the guest's.
fn step(world: &mut World, domain: u16, driver: Driver) {
    let back = format!("/local/domain/0/backend/vbd/{domain}/{ID}");
    let front = format!("/local/domain/{domain}/device/vbd/{ID}");
    let state = |world: &World, path: &str| {
        let node = world.nodes.get(&format!("{path}/state"));
        node.map(|(value, _)| value.clone()).unwrap_or_default()
    };
    let states = (state(world, &back), state(world, &front));
    let mut set = |path: String, value: &str| {
        world.nodes.insert(path, (value.into(), Access::Private));
    };
    match (states.0.as_str(), states.1.as_str()) {
        ("1", _) => set(format!("{back}/state"), "2"),
        ("2", "1") if driver == Driver::Takes => set(format!("{front}/state"), "4"),
        ("2", "1") if driver == Driver::Refuses => {
            let error = format!("/local/domain/{domain}/error/device/vbd/{ID}/error");
            set(error, "16 xlvbd_add at /local/domain/0/backend/vbd");
            set(format!("{front}/state"), "5");
        }
        ("2", "4") => set(format!("{back}/state"), "4"),
        _ => {}
    }
}

fn guest(scratch: &Scratch, fake: &Fake, driver: Driver) -> (Rig, Subject) {
    let (mut rig, _) = Rig::start(scratch, fake);
    let made = rig.create(config(scratch, "")).expect("it is created");
    rig.device = Dummy::of;
    let domain = made.domain;
    *fake.drivers.borrow_mut() = Some(Box::new(move |world| step(world, domain, driver)));
    (rig, made)
}

fn attach(rig: &Rig) -> (Result<serde_json::Value>, Vec<Event>) {
    let disk = DiskSpec {
        target: "/b.img".into(),
        vdev: "xvdb".into(),
        ..DiskSpec::default()
    };
    let op = Op::Attach {
        domain: "demo".into(),
        device: Box::new(Spec::Vbd(disk)),
    };
    let mut told = Vec::new();
    let done = rig.run(|context| context.perform(op, &mut |event| told.push(event)));
    (done, told)
}

fn entry(rig: &Rig) -> Entry {
    let manager = rig.manager.lock().expect("no panic");
    manager.entries().next().cloned().expect("the guest")
}

/// Nothing but what was there before, in store, journal and dom0.
fn nothing_new(rig: &Rig, before: &[String], scratch: &Scratch, when: &str) {
    let nodes: Vec<_> = rig.fake.state.borrow().nodes.keys().cloned().collect();
    assert_eq!(nodes, before, "{when}");
    let entry = entry(rig);
    assert!(
        entry.config.disks.is_empty(),
        "{when}: {:?}",
        entry.config.disks
    );
    assert!(entry.pending.is_empty(), "{when}: {:?}", entry.pending);
    assert_eq!(
        scratch.journal().read().expect("the journal").0,
        [entry],
        "{when}"
    );
    assert_eq!(HELD.get(), 0, "{when}");
}

fn nodes(fake: &Fake) -> Vec<String> {
    fake.state.borrow().nodes.keys().cloned().collect()
}

#[test]
fn a_disk_that_the_guest_takes_is_its_own_from_then_on() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = guest(&scratch, &fake, Driver::Takes);
    let (done, told) = attach(&rig);
    done.expect("it is attached");
    let warning = Event::Warning {
        text: "it is a dummy".into(),
    };
    assert_eq!(told, [warning]);
    let entry = entry(&rig);
    assert_eq!((entry.config.disks.len(), entry.pending.len()), (1, 0));
    // Another one of that name is refused, and takes nothing away with it; whatever fails just
    // then.
    let there = nodes(&fake);
    for call in 0..30 {
        fake.fail_at(call);
        let (again, _) = attach(&rig);
        again.expect_err("taken");
        fake.fail_no_more();
        for _ in 0..3 {
            rig.reap();
        }
        assert_eq!(nodes(&fake), there, "call {call}");
        assert_eq!(self::entry(&rig), entry, "call {call}");
    }
    let (again, _) = attach(&rig);
    assert!(again.expect_err("taken").to_string().contains("already"));
}

#[test]
fn a_guest_without_a_driver_keeps_what_it_was_given() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = guest(&scratch, &fake, Driver::IsNotThere);
    let (done, told) = attach(&rig);
    done.expect("it may connect later");
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(entry(&rig).config.disks.len(), 1);
}

#[test]
fn a_disk_that_the_guests_driver_refuses_leaves_nothing() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, _) = guest(&scratch, &fake, Driver::Refuses);
    let before = nodes(&fake);
    let (done, _) = attach(&rig);
    let error = done.expect_err("the driver refuses").to_string();
    assert!(
        error.contains("xlvbd_add") && error.contains("busy"),
        "{error}"
    );
    nothing_new(&rig, &before, &scratch, "after the refusal");
}

#[test]
fn an_attach_that_fails_at_any_call_leaves_nothing() {
    for driver in [Driver::Takes, Driver::Refuses] {
        for call in 0.. {
            let (scratch, fake) = (Scratch::new(), Fake::new(256));
            let (rig, _) = guest(&scratch, &fake, driver);
            let before = nodes(&fake);
            fake.fail_at(call);
            let (done, _) = attach(&rig);
            let failed = fake.fail_no_more();
            for _ in 0..3 {
                rig.reap();
            }
            if done.is_err() {
                nothing_new(&rig, &before, &scratch, &format!("call {call}"));
            } else {
                assert!(driver == Driver::Takes, "call {call}");
                assert_eq!(entry(&rig).config.disks.len(), 1);
            }
            if !failed {
                break;
            }
        }
    }
}

#[test]
fn an_attach_that_the_journal_cannot_note_leaves_nothing() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, made) = guest(&scratch, &fake, Driver::Refuses);
    let before = nodes(&fake);
    let block = scratch.0.join("journal").join(format!("{}.new", made.uuid));
    // The file system fills up while the device is attached.
    let full = block.clone();
    *fake.drivers.borrow_mut() = Some(Box::new(move |world| {
        let _ = std::fs::create_dir(&full);
        step(world, made.domain, Driver::Refuses);
    }));
    attach(&rig).0.expect_err("refused");
    *fake.drivers.borrow_mut() = None;
    std::fs::remove_dir(&block).expect("out of the way");
    for _ in 0..3 {
        rig.reap();
    }
    nothing_new(&rig, &before, &scratch, "once there is room again");
}

#[test]
fn an_attach_that_was_being_undone_at_a_kill_is_undone_by_the_next_daemon() {
    let (scratch, fake) = (Scratch::new(), Fake::new(256));
    let (rig, made) = guest(&scratch, &fake, Driver::Takes);
    let before = nodes(&fake);
    attach(&rig).0.expect("it is attached");
    let mut left = entry(&rig);
    left.config.disks.clear();
    left.pending.push(crate::journal::Pending::Undo {
        kind: Kind::Vbd,
        id: ID,
    });
    scratch
        .journal()
        .write(&left)
        .expect("as a killed daemon left it");
    drop(rig);
    let (rig, _) = Rig::start(&scratch, &fake);
    assert_eq!(entry(&rig).domain, Some(made.domain));
    nothing_new(&rig, &before, &scratch, "after the start");
}
