//! Start and stop: INIT, SIPI and the vcpu operations, in the orders that they can meet.

use guest_pv_abi as abi;

use crate::testing::{Guest, World, errno};
use crate::vcpu::{Hold, PostedStart};
use oxen_types::Errno;

const INIT: PostedStart = PostedStart {
    init: true,
    startup: false,
};
const SIPI: PostedStart = PostedStart {
    init: false,
    startup: true,
};
const BOTH: PostedStart = PostedStart {
    init: true,
    startup: true,
};

fn post(guest: &Guest, vcpu: u32, posted: PostedStart) {
    guest.with_arch(vcpu, |arch| *arch.posted.lock().unwrap() = posted);
}

/// Does what the CPU that runs a vcpu does before each entry; returns whether it goes on.
fn prepare(guest: &Guest, id: u32) -> bool {
    let vcpu = guest.vcpu(id);
    let posted = vcpu.arch.posted_start();
    post(guest, id, PostedStart::default());
    if posted.init {
        vcpu.take_init();
    }
    let _ = posted.startup && vcpu.take_startup();
    if !vcpu.is_initialised() {
        vcpu.go_down();
        return false;
    }
    true
}

fn started() -> (World, Guest) {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 3);
    guest.vcpu(0).set_initialised(true);
    (world, guest)
}

#[test]
fn a_sipi_that_comes_while_its_receiver_goes_down_is_not_lost() {
    let (_world, guest) = started();
    let vcpu = guest.vcpu(1);
    // Taken: nothing. Then, before it has gone down, INIT and SIPI are posted; it does not look
    // down.
    assert!(!vcpu.is_initialised());
    post(&guest, 1, BOTH);
    vcpu.kick_apic();
    vcpu.go_down();
    assert!(vcpu.is_runnable());
    assert!(prepare(&guest, 1) && vcpu.is_initialised());
    // The same for one that halts with interrupts off.
    post(&guest, 1, BOTH);
    vcpu.kick_apic();
    vcpu.go_down();
    assert!(vcpu.is_runnable() && prepare(&guest, 1));
}

#[test]
fn a_vcpu_with_a_context_waits_for_a_sipi_after_an_init() {
    let (_world, guest) = started();
    for loaded in [false, true] {
        let vcpu = guest.vcpu(1);
        vcpu.hold(Hold::Down);
        if loaded {
            // As a record of the toolstack's leaves it.
            vcpu.set_initialised(true);
        } else {
            let context = bytemuck::Zeroable::zeroed();
            let initialise = abi::VCPUOP_INITIALISE;
            assert_eq!(
                guest.try_vcpu_op::<abi::VcpuHvmContext>(initialise, 1, &context),
                0
            );
        }
        vcpu.release(Hold::Down);
        assert!(prepare(&guest, 1), "it runs");
        post(&guest, 1, INIT);
        vcpu.kick_apic();
        assert!(!prepare(&guest, 1) && vcpu.is_held(Hold::Down));
        // A SIPI starts it; another one changes nothing.
        for _ in 0..2 {
            post(&guest, 1, SIPI);
            vcpu.kick_apic();
            assert!(vcpu.is_runnable() && prepare(&guest, 1));
        }
        post(&guest, 1, INIT);
        assert!(!prepare(&guest, 1));
        let up = guest.try_vcpu_op(abi::VCPUOP_UP, 1, &0u64);
        assert_eq!(up, errno(Errno::Inval), "it has no state to run from");
    }
    assert_eq!(guest.domain.life().shutdown, None);
}

#[test]
fn a_sipi_without_an_init_wakes_nobody_who_has_a_state() {
    let (_world, guest) = started();
    let vcpu = guest.vcpu(1);
    vcpu.set_initialised(true);
    assert_eq!(guest.try_vcpu_op(abi::VCPUOP_DOWN, 1, &0u64), 0);
    post(&guest, 1, SIPI);
    vcpu.kick_apic();
    assert!(vcpu.is_held(Hold::Down));
    // An INIT before it changes that, whether it was taken or not.
    post(&guest, 1, BOTH);
    vcpu.kick_apic();
    assert!(vcpu.is_runnable() && prepare(&guest, 1));
}

#[test]
fn the_boot_vcpu_does_not_wait_and_the_last_one_ends_its_domain() {
    let (_world, guest) = started();
    post(&guest, 0, INIT);
    assert!(prepare(&guest, 0), "it runs at its reset vector");
    for id in [1, 2] {
        post(&guest, id, INIT);
        assert!(!prepare(&guest, id));
    }
    assert_eq!(guest.domain.life().shutdown, None);
    guest.vcpu(0).go_down();
    let shutdown = guest.domain.life().shutdown;
    assert_eq!(shutdown, Some(abi::SHUTDOWN_POWEROFF));
}
