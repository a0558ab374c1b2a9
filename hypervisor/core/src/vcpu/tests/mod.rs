//! Vcpus and the scheduler: what is picked, rescheduled later, and quiet.

use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::{CpuId, Errno};

use super::Hold;
use crate::testing::{Guest, World};

const CPU: CpuId = CpuId(0);

/// A world in which nothing but one guest's vcpus is runnable.
fn alone(vcpus: u32) -> (World, Guest, Guest) {
    let (world, dom0) = World::new();
    dom0.domain.vcpus().for_each(|v| v.hold(Hold::Down));
    let guest = world.guest(1, vcpus);
    (world, dom0, guest)
}

#[test]
fn a_vcpu_that_a_cpu_has_picked_is_not_quiet() {
    let (world, _dom0, guest) = alone(1);
    let vcpu = guest.vcpu(0);
    let picked = world.machine.pick_vcpu(CPU, 2_000).next.expect("a vcpu");
    assert_eq!(picked.id, vcpu.id);
    // The toolstack pauses it before that CPU got any further.
    guest.domain.pause().expect("paused");
    assert!(!guest.domain.is_quiet() && vcpu.cpu() == Some(CPU));
    // It looks at the holds, lets go of what it has not begun, and finds nothing to pick.
    vcpu.set_cpu(None);
    assert!(world.machine.pick_vcpu(CPU, 3_000).next.is_none());
    assert!(guest.domain.is_quiet());
}

/// One CPU has just noted a hold, and has not told the scheduler yet, when another pauses the
/// domain and looks whether it is quiet: from there on no CPU may pick the vcpu.
#[test]
fn who_pauses_a_vcpu_that_is_held_already_may_rely_on_it() {
    let (world, _dom0, guest) = alone(1);
    let vcpu = guest.vcpu(0);
    vcpu.hold_without_scheduler(Hold::Paused);
    guest.domain.pause().expect("paused");
    assert!(guest.domain.is_quiet());
    assert!(world.machine.pick_vcpu(CPU, 2_000).next.is_none());
}

#[test]
fn a_wake_up_within_the_rate_limit_is_looked_at_later() {
    let (world, _dom0, guest) = alone(3);
    world.platform.set_now(9_000_000);
    let (first, second) = (guest.vcpu(0), guest.vcpu(1));
    guest.vcpu(2).hold(Hold::Down);
    second.hold(Hold::Blocked);
    world.machine.pick_vcpu(CPU, 0).next.expect("the first");
    first.hold(Hold::Blocked);
    assert!(world.machine.pick_vcpu(CPU, 9_000_000).next.is_none());
    // It has burned 9 ms, and begins again.
    first.release(Hold::Blocked);
    world.machine.pick_vcpu(CPU, 9_000_000).next.expect("again");
    guest.vcpu(2).release(Hold::Down);
    world
        .machine
        .pick_vcpu(CpuId(1), 9_000_000)
        .next
        .expect("the third");
    world.platform.rescheduled.lock().unwrap().clear();
    world.platform.rescheduled_at.lock().unwrap().clear();
    world.platform.set_now(9_100_000);
    second.release(Hold::Blocked);
    assert!(world.platform.rescheduled.lock().unwrap().is_empty());
    let later = world.platform.rescheduled_at.lock().unwrap().clone();
    assert_eq!(later, [(CPU, 9_500_000)]);
}

#[test]
fn sysctl_tells_the_rate_limit_that_holds() {
    let (world, dom0) = World::new();
    let mut op = abi::SysctlSchedulerOp {
        cpupool_id: 0,
        sched_id: abi::XEN_SCHEDULER_CREDIT2,
        cmd: abi::XEN_SYSCTL_SCHEDOP_GETINFO,
        ..bytemuck::Zeroable::zeroed()
    };
    assert_eq!(dom0.sysctl(abi::XEN_SYSCTL_SCHEDULER_OP, &mut op), 0);
    let told: abi::SysctlCredit2Schedule = op.u.view();
    let limit = world.machine.sched.with(|policy| policy.rate_limit());
    assert_eq!(u64::from(told.ratelimit_us) * 1_000, limit);
    let guest = world.guest(1, 1);
    let refused = guest.sysctl(abi::XEN_SYSCTL_SCHEDULER_OP, &mut op);
    assert_eq!(refused, crate::testing::errno(Errno::Perm));
}
