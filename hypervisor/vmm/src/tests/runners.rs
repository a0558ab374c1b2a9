//! The loop runs guest CPUs of more than one kind.

use core::sync::atomic::Ordering;

use oxen_core::runstate::State;
use oxen_core::vcpu::Hold;

use crate::testing::Lab;
use crate::testing::backend::Act;
use crate::testing::toy::{Step, ToyExit};

#[test]
fn a_second_kind_of_vcpu_runs_in_the_same_loop() {
    let lab = Lab::new();
    let toy = lab.toy();
    lab.turn(0);
    assert_eq!(
        toy.state.take(),
        [
            Step::Load,
            Step::Prepare,
            Step::CatchUp(true),
            Step::Ready(true),
            Step::Enter(true),
            Step::Handle(ToyExit::Yield),
            Step::Unload,
        ]
    );
    assert!(toy.vcpu().is_quiet());
}

#[test]
fn vcpus_of_two_kinds_take_turns_on_one_cpu() {
    let lab = Lab::new();
    let (toy, guest) = (lab.toy(), lab.guest(1));
    for turn in 1..=8 {
        lab.fake.set_now(turn * 20_000_000);
        lab.turn(0);
    }
    assert!(toy.state.take().contains(&Step::Enter(true)));
    assert!(guest.script(0).take().contains(&Act::Run));
}

#[test]
fn a_toy_that_waits_is_blocked_and_not_picked_again() {
    let lab = Lab::new();
    let toy = lab.toy();
    toy.state.exits.lock().unwrap().push_back(ToyExit::Wait);
    lab.turn(0);
    assert!(toy.vcpu().is_held(Hold::Blocked));
    assert_eq!(toy.vcpu().run_times(0).0, State::Blocked);
    toy.state.take();
    lab.turn(0);
    assert_eq!(toy.state.take(), []);
}

#[test]
fn tables_are_made_ready_outside_of_the_guest() {
    let lab = Lab::new();
    let toy = lab.toy();
    toy.state.unready.store(2, Ordering::SeqCst);
    lab.turn(0);
    let tail = [
        Step::CatchUp(true),
        Step::Ready(true),
        Step::MakeReady(false),
        Step::Ready(true),
        Step::MakeReady(false),
        Step::Ready(true),
        Step::Enter(true),
    ];
    assert_eq!(toy.state.take()[2..9], tail);
}

/// Somebody else changes the tables each time: the loop looks at interrupts and the scheduler in
/// between.
#[test]
fn a_vcpu_whose_tables_do_not_hold_still_gives_the_loop_a_chance() {
    let lab = Lab::new();
    let toy = lab.toy();
    toy.state.unready.store(20, Ordering::SeqCst);
    lab.turn(0);
    let steps = toy.state.take();
    let prepared = steps.iter().filter(|step| **step == Step::Prepare).count();
    assert_eq!(prepared, 3);
    assert_eq!(lab.vmm.this_cpu().inside(toy.domain.id), None);
}

#[test]
fn a_vcpu_that_cannot_run_after_all_is_unloaded() {
    let lab = Lab::new();
    let toy = lab.toy();
    *toy.state.can_run.lock().unwrap() = false;
    lab.turn(0);
    assert_eq!(toy.state.take(), [Step::Load, Step::Prepare, Step::Unload]);
}
