//! Timers: set, set anew, taken back, fired in order; and as guests ask for them.

use std::vec::Vec;

use guest_pv_abi as abi;
use oxen_types::{CpuId, Errno};
use proptest::prelude::*;

use super::TimerKind;
use crate::testing::{Guest, PAGE, World, errno};

const CPU: CpuId = CpuId(0);

/// The timers that are due at `now`: vcpu and kind, in the order of firing.
fn due(world: &World, cpu: CpuId, now: u64) -> Vec<(u32, TimerKind)> {
    let pop = || world.machine.pop_due_timer(cpu, now);
    core::iter::from_fn(pop)
        .map(|(vcpu, kind)| (vcpu.id.0, kind))
        .collect()
}

#[test]
fn the_earliest_fires_first_and_once() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 3);
    let timers = &world.machine.timers;
    let set = |vcpu: u32, at: u64| guest.vcpu(vcpu).arm_timer(TimerKind::SingleShot, at, CPU);
    assert!(set(0, 300));
    assert!(set(1, 100), "the earliest now");
    assert!(!set(2, 200));
    assert_eq!(timers.next(CPU), Some(100));
    assert!(due(&world, CPU, 99).is_empty());
    let kind = TimerKind::SingleShot;
    assert_eq!(due(&world, CPU, 200), [(1, kind), (2, kind)]);
    assert!(due(&world, CPU, 200).is_empty());
    assert_eq!(due(&world, CPU, u64::MAX), [(0, kind)]);
    assert_eq!(timers.next(CPU), None);
}

#[test]
fn a_timer_that_is_set_anew_moves_between_queues() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 1);
    let timers = &world.machine.timers;
    let vcpu = guest.vcpu(0);
    vcpu.arm_timer(TimerKind::Lapic, 100, CPU);
    vcpu.arm_timer(TimerKind::Lapic, 50, CpuId(1));
    assert_eq!((timers.next(CPU), timers.next(CpuId(1))), (None, Some(50)));
    // Another kind is another timer, even at the same time.
    vcpu.arm_timer(TimerKind::Poll, 50, CpuId(1));
    vcpu.cancel_timer(TimerKind::Lapic);
    assert_eq!(due(&world, CpuId(1), 50), [(0, TimerKind::Poll)]);
    vcpu.cancel_timer(TimerKind::Lapic);
    for kind in [TimerKind::Periodic, TimerKind::FirstWatchdog] {
        vcpu.arm_timer(kind, 7, CPU);
    }
    vcpu.cancel_all_timers();
    assert_eq!(timers.next(CPU), None);
}

#[test]
fn the_end_of_a_domain_takes_its_timers() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 2);
    for vcpu in guest.domain.vcpus() {
        vcpu.arm_timer(TimerKind::Periodic, 10, CPU);
    }
    world.destroy(&guest.domain);
    assert_eq!(world.machine.timers.next(CPU), None);
}

fn vcpu_op<T: bytemuck::Pod>(guest: &Guest, cmd: u32, ask: &T) -> i64 {
    guest.write(PAGE, ask);
    guest.call(abi::HYPERVISOR_VCPU_OP, &[cmd.into(), 0, PAGE])
}

#[test]
fn guests_set_their_timers() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 1);
    let next = || world.machine.timers.next(CPU);
    world.platform.set_now(1_000_000);
    let past = abi::VcpuSetSingleshotTimer {
        timeout_abs_ns: 5,
        flags: 0,
        _pad: 0,
    };
    // Linux relies on it: a deadline in the past fires at once.
    let cmd = abi::VCPUOP_SET_SINGLESHOT_TIMER;
    assert_eq!(vcpu_op(&guest, cmd, &past), 0);
    assert_eq!(due(&world, CPU, 1_000_000), [(0, TimerKind::SingleShot)]);
    let strict = abi::VcpuSetSingleshotTimer {
        flags: abi::VCPU_SSHOTTMR_FUTURE,
        ..past
    };
    assert_eq!(vcpu_op(&guest, cmd, &strict), errno(Errno::Time));
    let later = abi::VcpuSetSingleshotTimer {
        timeout_abs_ns: 2_000_000,
        ..past
    };
    assert_eq!(vcpu_op(&guest, cmd, &later), 0);
    assert_eq!(next(), Some(2_000_000));
    let stop = abi::VCPUOP_STOP_SINGLESHOT_TIMER;
    assert_eq!(vcpu_op(&guest, stop, &0u64), 0);
    assert_eq!(next(), None);
    let set_timer = |at: u64| guest.call(abi::HYPERVISOR_SET_TIMER_OP, &[at]);
    assert_eq!(set_timer(3_000_000), 0);
    assert_eq!(next(), Some(3_000_000));
    assert_eq!(set_timer(0), 0);
    assert_eq!(next(), None);
    let mut period = abi::VcpuSetPeriodicTimer { period_ns: 999_999 };
    let cmd = abi::VCPUOP_SET_PERIODIC_TIMER;
    assert_eq!(vcpu_op(&guest, cmd, &period), errno(Errno::Inval));
    period.period_ns = u64::MAX;
    assert_eq!(vcpu_op(&guest, cmd, &period), errno(Errno::Inval));
    period.period_ns = 1_000_000;
    assert_eq!(vcpu_op(&guest, cmd, &period), 0);
    let stop = abi::VCPUOP_STOP_PERIODIC_TIMER;
    assert_eq!(vcpu_op(&guest, stop, &0u64), 0);
    assert_eq!(next(), None);
}

#[test]
fn a_pass_fires_so_many_timers_and_no_more() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 128);
    world.platform.set_now(0);
    for vcpu in guest.domain.vcpus() {
        vcpu.arm_timer(TimerKind::SingleShot, 10, CPU);
        vcpu.arm_timer(TimerKind::Lapic, 10, CPU);
    }
    world.platform.set_now(10);
    let passes = (1..=100).find(|_| !world.machine.fire_timers(CPU));
    assert_eq!(passes, Some(256 / 16));
    assert_eq!(world.machine.timers.next(CPU), None);
}

fn watchdog(guest: &Guest, vcpu: u32, id: u32, timeout: u32) -> i64 {
    guest.write(PAGE, &abi::SchedWatchdog { id, timeout });
    let args = [abi::SCHEDOP_WATCHDOG.into(), PAGE];
    guest.call_on(vcpu, abi::HYPERVISOR_SCHED_OP, &args).0
}

#[test]
fn a_domain_has_two_watchdogs_and_any_vcpu_feeds_either() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 3);
    let next = || world.machine.timers.next(CPU);
    let inval = errno(Errno::Inval);
    assert_eq!(watchdog(&guest, 0, 0, 0), inval);
    assert_eq!(watchdog(&guest, 0, 1, 5), inval, "nobody has it yet");
    assert_eq!(watchdog(&guest, 1, 0, 2), 1);
    assert_eq!(next(), Some(2_000_001_000));
    assert_eq!(watchdog(&guest, 2, 0, 3), 2);
    assert_eq!(watchdog(&guest, 0, 0, 3), errno(Errno::NoSpc));
    assert_eq!(watchdog(&guest, 0, 1, 5), 0, "fed by another vcpu");
    assert_eq!(next(), Some(3_000_001_000));
    for id in [3, 4, u32::MAX] {
        assert_eq!(watchdog(&guest, 0, id, 5), inval);
    }
    assert_eq!(watchdog(&guest, 0, 2, 0), 0);
    assert_eq!(watchdog(&guest, 0, 2, 0), inval, "given back");
    assert_eq!(next(), Some(5_000_001_000));
    assert_eq!(watchdog(&guest, 1, 0, 9), 2, "and had again");
    assert_eq!(watchdog(&guest, 2, 1, 0), 0);
    assert_eq!(watchdog(&guest, 2, 2, 0), 0);
    assert_eq!(next(), None);
}

#[test]
fn a_watchdog_that_has_barked_is_still_its_owners() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 2);
    assert_eq!(watchdog(&guest, 1, 0, 1), 1);
    assert_eq!(
        due(&world, CPU, u64::MAX),
        [(0, TimerKind::FirstWatchdog)],
        "whoever asked for it, vcpu 0 keeps it"
    );
    // The toolstack resumed the domain: its daemon goes on.
    assert_eq!(watchdog(&guest, 0, 1, 1), 0);
    world.destroy(&guest.domain);
    assert_eq!(world.machine.timers.next(CPU), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against a list that is searched: what fires, and when.
    #[test]
    fn queues_agree_with_a_model(
        steps in prop::collection::vec((0u8..3, 0u32..3, 0usize..3, 0u64..20), 1..150)
    ) {
        const KINDS: [TimerKind; 3] = [TimerKind::SingleShot, TimerKind::Poll, TimerKind::Lapic];
        let (world, _dom0) = World::new();
        let guest = world.guest(1, 3);
        let timers = &world.machine.timers;
        let mut model = std::collections::BTreeMap::new();
        let mut now = 0;
        for (what, vcpu, kind, at) in steps {
            match what {
                0 => {
                    guest.vcpu(vcpu).arm_timer(KINDS[kind], now + at, CPU);
                    model.insert((vcpu, kind), now + at);
                }
                1 => {
                    guest.vcpu(vcpu).cancel_timer(KINDS[kind]);
                    model.remove(&(vcpu, kind));
                }
                _ => {
                    now += at;
                    let mut fired = due(&world, CPU, now);
                    let mut expected: Vec<_> = model
                        .iter()
                        .filter(|(_, at)| **at <= now)
                        .map(|((vcpu, kind), _)| (*vcpu, KINDS[*kind]))
                        .collect();
                    model.retain(|_, at| *at > now);
                    fired.sort_by_key(|(vcpu, kind)| (*vcpu, *kind as usize));
                    expected.sort_by_key(|(vcpu, kind)| (*vcpu, *kind as usize));
                    prop_assert_eq!(fired, expected);
                }
            }
            prop_assert_eq!(timers.next(CPU), model.values().min().copied());
        }
    }
}
