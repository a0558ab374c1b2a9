//! Devices on a store in memory, with drivers that do what theirs would.

use super::*;
use crate::nodes::Nodes;
use oxen_config::Uuid;
use oxen_domain::testing::{Fake, State as World};
use oxen_domain::world::{Access, Change, Hypervisor};
use std::cell::Cell;
use std::rc::Rc;

const BACK: &str = "/local/domain/0/backend/vbd/7/51712";
const FRONT: &str = "/local/domain/7/device/vbd/51712";

fn guest() -> Guest<'static> {
    Guest {
        domain: 7,
        uuid: Uuid::default(),
        name: "demo",
    }
}

/// Holds one thing, and counts how often it let go.
struct Dummy(Rc<Cell<u32>>);

impl Drop for Dummy {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

impl Device for Dummy {
    fn kind(&self) -> Kind {
        Kind::Vbd
    }
    fn id(&self) -> u32 {
        51712
    }
    fn claim(&mut self, _: &Guest<'_>, _: &mut dyn Store) -> Result<Nodes> {
        Ok(Nodes {
            front: vec![("virtual-device", "51712".into())],
            back: vec![("mode", "r".into())],
            warnings: vec!["it is a dummy".into()],
        })
    }
    fn plug(&mut self, _: &Guest<'_>) -> Result<Vec<(&'static str, String)>> {
        Ok(vec![("hotplug-status", "connected".into())])
    }
    fn is_plugged(&mut self, _: &Guest<'_>) -> bool {
        true
    }
}

fn set(world: &mut World, path: &str, value: &str) {
    world
        .nodes
        .insert(path.to_owned(), (value.to_owned(), Access::Private));
}

fn state(world: &World, path: &str) -> State {
    let node = world.nodes.get(&format!("{path}/state"));
    State::parse(node.map(|(value, _)| value.as_str()))
}

/// One step of each driver. A guest that does not want to let go stays connected.
fn drivers(world: &mut World, stubborn: bool) {
    let (back, front) = (state(world, BACK), state(world, FRONT));
    let next = match (back, front) {
        (State::Initialising, _) => (BACK, "2"),
        (State::InitWait, State::Initialising) => (FRONT, "4"),
        (State::InitWait, State::Connected) => (BACK, "4"),
        (State::Closing, State::Connected) if !stubborn => (FRONT, "6"),
        (State::Closing, State::Closed) => (BACK, "6"),
        _ => return,
    };
    set(world, &format!("{}/state", next.0), next.1);
}

fn with_drivers(stubborn: bool) -> Fake {
    let fake = Fake::new(64);
    *fake.drivers.borrow_mut() = Some(Box::new(move |world| drivers(world, stubborn)));
    fake
}

fn attached(fake: &Fake) -> Held {
    let mut store = fake.clone();
    let let_go = Rc::default();
    let told = attach(&mut store, &guest(), &mut Dummy(let_go)).expect("it is attached");
    assert_eq!(told, ["it is a dummy"]);
    assert!(connected(&mut store, &guest(), Kind::Vbd, 51712).expect("no error"));
    let held = held::of_domain(&mut store, 7).expect("the store");
    held.into_iter().next().expect("a device")
}

#[test]
fn a_device_comes_and_goes() {
    let fake = with_drivers(false);
    let held = attached(&fake);
    assert_eq!(held.back_state, State::Connected);
    assert_eq!(held.node("hotplug-status"), "connected");
    {
        let nodes = &fake.state.borrow().nodes;
        assert_eq!(nodes[FRONT].1, Access::Owned(7));
        assert_eq!(nodes[BACK].1, Access::Readable(7));
        assert_eq!(nodes[&format!("{FRONT}/backend")].0, BACK);
        assert_eq!(nodes[&format!("{BACK}/frontend")].0, FRONT);
    }
    let mut store = fake.clone();
    let again = attach(&mut store, &guest(), &mut Dummy(Rc::default()));
    assert!(again.expect_err("taken").to_string().contains("already"));
    detach(&mut store, &guest(), &held, false).expect("it lets go");
    assert!(fake.state.borrow().nodes.is_empty());
}

#[test]
fn a_guest_that_does_not_let_go_needs_force() {
    let fake = with_drivers(true);
    let held = attached(&fake);
    let mut store = fake.clone();
    let error = detach(&mut store, &guest(), &held, false).expect_err("stubborn");
    assert!(error.to_string().contains("--force"), "{error}");
    assert!(!fake.state.borrow().nodes.is_empty());
    detach(&mut store, &guest(), &held, true).expect("by force");
    assert!(fake.state.borrow().nodes.is_empty());
}

#[test]
fn what_a_driver_reports_is_told_and_nothing_is_left() {
    let fake = Fake::new(64);
    *fake.drivers.borrow_mut() = Some(Box::new(|world| {
        let path = "/local/domain/0/error/backend/vbd/7/51712/error";
        set(world, path, "2 creating vbd structure");
    }));
    let (mut store, let_go) = (fake.clone(), Rc::new(Cell::new(0)));
    let error = attach(&mut store, &guest(), &mut Dummy(Rc::clone(&let_go))).expect_err("a report");
    assert!(error.to_string().contains("creating vbd"), "{error}");
    assert_eq!(let_go.get(), 1);
    assert!(fake.state.borrow().nodes.is_empty());
}

#[test]
fn a_missing_driver_is_told_and_nothing_is_left() {
    let fake = Fake::new(64);
    let error = attach(&mut fake.clone(), &guest(), &mut Dummy(Rc::default()));
    let error = error.expect_err("no driver").to_string();
    assert!(error.contains("modprobe xen-blkback"), "{error}");
    assert!(fake.state.borrow().nodes.is_empty());
}

#[test]
fn a_failure_of_the_store_at_any_point_leaves_nothing() {
    for call in 0.. {
        let fake = with_drivers(false);
        fake.fail_at(call);
        let result = attach(&mut fake.clone(), &guest(), &mut Dummy(Rc::default()));
        if !fake.has_failed() {
            result.expect("nothing failed");
            return;
        }
        // The cleaning itself is the one thing that may have failed.
        if result.is_err() {
            assert!(fake.state.borrow().nodes.is_empty(), "at call {call}");
        }
    }
}

/// blkback as it begins to serve a device that the toolset removes at the same moment.
fn late(world: &mut World) {
    if !world.nodes.contains_key(&format!("{BACK}/frontend-id")) {
        set(world, &format!("{BACK}/sectors"), "0");
    }
}

#[test]
fn nodes_that_the_driver_writes_after_the_removal_go_too() {
    let fake = with_drivers(false);
    let held = attached(&fake);
    let mut store = fake.clone();
    *fake.drivers.borrow_mut() = Some(Box::new(late));
    detach(&mut store, &guest(), &held, true).expect("by force");
    assert!(fake.state.borrow().nodes.is_empty());
}

#[test]
fn a_directory_that_only_the_driver_wrote_is_no_device() {
    let mut fake = Fake::new(64);
    set(
        &mut fake.state.borrow_mut(),
        &format!("{BACK}/sectors"),
        "0",
    );
    assert_eq!(held::of_domain(&mut fake, 7), Ok(Vec::new()));
}

#[test]
fn other_devices_of_the_guest_stay() {
    let fake = with_drivers(false);
    let held = attached(&fake);
    let mut store = fake.clone();
    store
        .apply(&[Change::Write {
            path: "/local/domain/0/backend/vbd/7/51728/frontend-id".into(),
            value: "7".into(),
        }])
        .expect("the store");
    detach(&mut store, &guest(), &held, true).expect("by force");
    assert_eq!(held::of_domain(&mut store, 7).expect("the store").len(), 1);
    assert!(fake.domains().expect("the hypervisor").is_empty());
}

/// blkback and blkfront around an unbinding: the back end starts again when the front end does.
fn unbound(world: &mut World) {
    if (state(world, BACK), state(world, FRONT)) == (State::Closed, State::Initialising) {
        set(world, &format!("{BACK}/state"), "2");
    }
}

#[test]
fn a_disk_that_was_let_go_of_can_be_bound_again_or_taken_away() {
    let fake = with_drivers(false);
    let held = attached(&fake);
    assert!(!is_let_go(&held));
    let mut store = fake.clone();
    let again = |store: &mut Fake| offer_again(store, 7, Kind::Vbd, 51712);
    assert_eq!(again(&mut store), Ok(false), "it is in use");
    for side in [FRONT, BACK] {
        set(&mut fake.state.borrow_mut(), &format!("{side}/state"), "6");
    }
    set(
        &mut fake.state.borrow_mut(),
        &format!("{BACK}/sectors"),
        "8",
    );
    *fake.drivers.borrow_mut() = Some(Box::new(unbound));
    for call in 0.. {
        fake.fail_at(call);
        let done = again(&mut store);
        if !fake.fail_no_more() {
            assert_eq!(done, Ok(true));
            break;
        }
        assert!(done.is_err(), "call {call}");
        if again(&mut store) == Ok(true) {
            // What was half done is finished; from the beginning once more.
            for side in [FRONT, BACK] {
                set(&mut fake.state.borrow_mut(), &format!("{side}/state"), "6");
            }
        }
    }
    let held = held::find(&mut store, 7, Kind::Vbd, 51712);
    let held = held.expect("the store").expect("the disk");
    assert_eq!(
        (held.back_state, held.front_state),
        (State::Connected, State::Initialising)
    );
    assert_eq!(again(&mut store), Ok(false), "once");
    // Nobody is there who would have to let go.
    detach(&mut store, &guest(), &held, false).expect("it goes");
    assert!(fake.state.borrow().nodes.is_empty());
}

#[test]
fn a_disk_that_ends_is_not_offered_again() {
    let fake = with_drivers(false);
    attached(&fake);
    let mut store = fake.clone();
    set(&mut fake.state.borrow_mut(), &format!("{FRONT}/state"), "6");
    for (online, back) in [("0", "6"), ("1", "5"), ("1", "2")] {
        set(
            &mut fake.state.borrow_mut(),
            &format!("{BACK}/online"),
            online,
        );
        set(&mut fake.state.borrow_mut(), &format!("{BACK}/state"), back);
        assert_eq!(offer_again(&mut store, 7, Kind::Vbd, 51712), Ok(false));
    }
}
