//! Tests of the loop of a CPU: its duties to a vcpu, the scheduler and the machine, in and out.

use std::vec::Vec;

use oxen_core::runstate::State;
use oxen_core::timer::TimerKind;
use oxen_core::vcpu::Hold;
use oxen_types::{CpuId, Errno};
use oxen_virt::{Exit, Reg};

use crate::testing::Lab;
use crate::testing::backend::Act;
use crate::testing::host::{Did, TSC_PER_NS, become_cpu};

fn count(acts: &[Act], act: Act) -> usize {
    acts.iter().filter(|other| **other == act).count()
}

#[test]
fn a_turn_loads_runs_and_unloads() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    guest.script(0).exits(Exit::Settled);
    lab.turn(0);
    let acts = guest.script(0).take();
    let ends: Vec<_> = acts
        .iter()
        .filter(|act| matches!(act, Act::Load | Act::Run | Act::Unload))
        .collect();
    assert_eq!(ends, [&Act::Load, &Act::Run, &Act::Run, &Act::Unload]);
}

#[test]
fn a_vcpu_counts_as_running_exactly_while_it_is_loaded() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    let (vcpu, vmm) = (guest.vcpu(0), lab.vmm);
    guest.script(0).then(move |_| {
        assert_eq!(vcpu.run_times(0).0, State::Running);
        assert_eq!(vcpu.cpu(), Some(CpuId(0)));
        let current = vmm.cpu(CpuId(0)).current().expect("it runs");
        assert_eq!(current.id, vcpu.id);
        Exit::Settled
    });
    lab.turn(0);
    assert_eq!(guest.vcpu(0).run_times(0).0, State::Runnable);
    assert!(guest.vcpu(0).is_quiet());
    assert!(lab.vmm.cpu(CpuId(0)).current().is_none());
}

#[test]
fn a_vcpu_that_blocks_or_goes_down_is_noted_so() {
    let lab = Lab::new();
    let guest = lab.guest(2);
    for (n, interrupts, state) in [(0, true, State::Blocked), (1, false, State::Offline)] {
        guest.script(n).then(move |cpu| {
            cpu.set(Reg::Rflags, if interrupts { 0x202 } else { 2 });
            Exit::Hlt
        });
        guest.run(n);
        assert_eq!(guest.vcpu(n).run_times(0).0, state);
    }
}

#[test]
fn the_context_of_a_loaded_vcpu_is_busy_and_free_again_afterwards() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    let vcpu = guest.vcpu(0);
    guest.script(0).then(move |_| {
        let saved = vcpu.arch.save(2, &mut |_| Ok(()));
        assert_eq!(saved, Err(Errno::Busy));
        Exit::Settled
    });
    lab.turn(0);
    assert_eq!(guest.vcpu(0).arch.save(2, &mut |_| Ok(())), Ok(()));
}

#[test]
fn interrupts_are_taken_between_any_two_entries() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    for _ in 0..3 {
        guest.script(0).exits(Exit::ExternalInterrupt);
    }
    guest.run(0);
    let windows = lab
        .fake
        .take()
        .iter()
        .filter(|did| **did == Did::Window)
        .count();
    // Before each of four entries, and before the loop is left.
    assert_eq!(windows, 5);
}

#[test]
fn a_vector_that_the_exit_acknowledged_is_dispatched() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    guest.script(0).exits(Exit::TakenInterrupt(0x33));
    guest.script(0).exits(Exit::HostMachineCheck);
    guest.run(0);
    assert_eq!(
        lab.fake.take_rare()[1..],
        [Did::Dispatch(0x33), Did::MachineCheck]
    );
}

#[test]
fn the_timer_is_set_for_the_end_of_the_slice() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    guest.run_until(0, 50_000);
    assert_eq!(lab.fake.take_rare(), [Did::Deadline(50_000)]);
    // It is set for that moment already.
    guest.run_until(0, 50_000);
    assert_eq!(lab.fake.take_rare(), []);
    lab.vmm.this_cpu().timer_fired();
    guest.run_until(0, 50_000);
    assert_eq!(lab.fake.take_rare(), [Did::Deadline(50_000)]);
}

#[test]
fn an_earlier_timer_goes_before_the_end_of_the_slice() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    guest.vcpu(0).arm_timer(TimerKind::Lapic, 20_000, CpuId(0));
    guest.run_until(0, 50_000);
    assert_eq!(lab.fake.take_rare(), [Did::Deadline(20_000)]);
}

#[test]
fn hardware_that_ends_a_run_by_itself_needs_no_timer() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    *guest.script(0).has_deadline.lock().unwrap() = true;
    guest.run_until(0, 50_000);
    assert_eq!(lab.fake.take_rare(), []);
    let tsc = 50_000 * TSC_PER_NS;
    assert!(guest.script(0).take().contains(&Act::Leave(Some(tsc))));
    // The CPU's own timer, set while it was idle, comes earlier.
    lab.vmm.this_cpu().set_deadline(30_000, &lab.vmm.host);
    guest.run_until(0, 50_000);
    assert!(guest.script(0).take().contains(&Act::Leave(None)));
}

#[test]
fn the_hardware_s_own_timer_is_no_use_where_the_clock_is_another() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    *guest.script(0).has_deadline.lock().unwrap() = true;
    let clock = &lab.fake.clock_is_tsc;
    clock.store(false, core::sync::atomic::Ordering::SeqCst);
    guest.run_until(0, 50_000);
    assert_eq!(lab.fake.take_rare(), [Did::Deadline(50_000)]);
}

#[test]
fn a_slice_that_is_over_is_not_entered() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    lab.fake.set_now(60_000);
    guest.run_until(0, 60_000);
    assert_eq!(count(&guest.script(0).take(), Act::Run), 0);
}

#[test]
fn a_request_to_reschedule_ends_the_run_before_the_next_entry() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    let vmm = lab.vmm;
    guest.script(0).then(move |_| {
        vmm.cpu(CpuId(0)).request_reschedule();
        Exit::Settled
    });
    guest.script(0).exits(Exit::Settled);
    guest.run(0);
    assert_eq!(count(&guest.script(0).take(), Act::Run), 1);
}

#[test]
fn a_vcpu_that_is_held_is_not_entered_again() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    let vcpu = guest.vcpu(0);
    guest.script(0).then(move |_| {
        vcpu.hold(Hold::Paused);
        Exit::Settled
    });
    guest.script(0).exits(Exit::Settled);
    guest.run(0);
    let acts = guest.script(0).take();
    assert_eq!((count(&acts, Act::Run), count(&acts, Act::Unload)), (1, 1));
}

#[test]
fn an_idle_cpu_halts_until_the_next_timer() {
    let lab = Lab::new();
    lab.turn(0);
    let did = lab.fake.take_rare();
    assert!(matches!(did[..], [Did::Deadline(_), Did::Idle]));
    assert!(matches!(did[0], Did::Deadline(at) if at <= 1_000_001_000));
    lab.vmm.this_cpu().request_reschedule();
    become_cpu(0);
    lab.turn(0);
    assert!(
        lab.fake.take().contains(&Did::Idle),
        "the request is taken first"
    );
}

#[test]
fn each_turn_does_the_machine_s_own_work_before_the_scheduler_is_asked() {
    let lab = Lab::new();
    lab.turn(1);
    assert_eq!(lab.fake.take()[..2], [Did::Window, Did::Work(1)]);
}

#[test]
fn pause_gives_way_to_others() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    guest.script(0).exits(Exit::Pause);
    guest.script(0).exits(Exit::Settled);
    guest.run(0);
    assert_eq!(count(&guest.script(0).take(), Act::Run), 1);
}

#[test]
fn a_guest_that_cannot_go_on_ends_its_domain_alone() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    guest.script(0).exits(Exit::Shutdown);
    guest.run(0);
    assert!(guest.vcpu(0).is_held(Hold::ShutDown));
    assert_eq!(
        guest.domain.life().shutdown,
        Some(guest_pv_abi::SHUTDOWN_CRASH)
    );
    let acts = guest.script(0).take();
    assert_eq!((count(&acts, Act::Run), count(&acts, Act::Unload)), (1, 1));
}

#[test]
fn a_cpu_that_was_far_too_late_stops_its_guest() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    let (vmm, fake) = (lab.vmm, lab.fake);
    let domain = guest.domain.clone();
    guest.script(0).then(move |_| {
        // CPU 1 flushes, and this one does not leave for six seconds.
        become_cpu(1);
        let mut turns = 0;
        fake.on_poll(move || {
            turns += 1;
            fake.set_now(1_000 + turns * 10_000_000);
            if turns == 600 {
                vmm.cpu(CpuId(0)).leave_guest();
            }
        });
        domain.memory.flush();
        become_cpu(0);
        Exit::Settled
    });
    guest.run(0);
    assert!(guest.vcpu(0).is_held(Hold::ShutDown));
    let did = lab.fake.take();
    let at = |did: &[Did], what| did.iter().position(|other| *other == what);
    assert!(at(&did, Did::Kick(0)) < at(&did, Did::Nmi(0)));
}
