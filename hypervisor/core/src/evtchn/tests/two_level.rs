//! The 2-level ABI, read as a guest reads it: `evtchn_upcall_pending`, selector, pending and mask.

use core::sync::atomic::Ordering;

use guest_pv_abi as abi;
use oxen_types::Port;
use proptest::prelude::*;

use super::Events;
use crate::evtchn::raise_virq;
use crate::testing::{Guest, PAGE, World, errno};
use crate::vcpu::Hold;

/// Offsets in shared_info.
const PENDING: usize = 2048;
const MASK: usize = 2560;
const VECTOR: u8 = 0xf3;

fn word(guest: &Guest, at: usize) -> &core::sync::atomic::AtomicU32 {
    guest.domain.shared_info().word(at)
}

fn mask(guest: &Guest, port: u32) {
    word(guest, MASK + (port / 32 * 4) as usize).fetch_or(1 << (port % 32), Ordering::SeqCst);
}

fn upcall(guest: &Guest, vcpu: u32) -> bool {
    word(guest, vcpu as usize * 64).load(Ordering::SeqCst) & 0xff != 0
}

/// Linux' part on an upcall: the ports that it handles, in order.
fn handle(guest: &Guest, vcpu: u32) -> std::vec::Vec<u32> {
    let base = vcpu as usize * 64;
    let mut handled = std::vec::Vec::new();
    word(guest, base).fetch_and(!0xff, Ordering::SeqCst);
    for half in 0..2 {
        let mut selected = word(guest, base + 8 + half * 4).swap(0, Ordering::SeqCst);
        while selected != 0 {
            let index = half as u32 * 32 + selected.trailing_zeros();
            selected &= selected - 1;
            for part in [index * 2, index * 2 + 1] {
                let at = (part * 4) as usize;
                let masked = word(guest, MASK + at).load(Ordering::SeqCst);
                let mut pending = word(guest, PENDING + at).load(Ordering::SeqCst) & !masked;
                while pending != 0 {
                    let bit = pending.trailing_zeros();
                    pending &= pending - 1;
                    word(guest, PENDING + at).fetch_and(!(1 << bit), Ordering::SeqCst);
                    handled.push(part * 32 + bit);
                }
            }
        }
    }
    handled
}

fn with_vector(guest: &Guest, vcpu: u32) {
    let mut ask = abi::HvmEvtchnUpcallVector {
        vcpu,
        vector: VECTOR,
        _pad: [0; 3],
    };
    let number = abi::HYPERVISOR_HVM_OP;
    assert_eq!(
        guest.op(number, abi::HVMOP_SET_EVTCHN_UPCALL_VECTOR, &mut ask),
        0
    );
}

#[test]
fn an_event_makes_one_upcall_at_its_vcpu() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 2);
    with_vector(&guest, 0);
    with_vector(&guest, 1);
    let (here, there) = (guest.ipi(0).expect("ipi"), guest.ipi(1).expect("ipi"));
    for _ in 0..3 {
        assert_eq!(guest.send(there), 0);
    }
    assert_eq!(guest.with_arch(1, |vcpu| vcpu.take_vectors()), [VECTOR]);
    assert!(guest.with_arch(0, |vcpu| vcpu.take_vectors()).is_empty());
    assert!(upcall(&guest, 1) && !upcall(&guest, 0));
    assert_eq!(handle(&guest, 1), [there]);
    assert_eq!(guest.send(there), 0);
    assert_eq!(
        guest.with_arch(1, |vcpu| vcpu.take_vectors()),
        [VECTOR],
        "a new one"
    );
    assert_eq!(handle(&guest, 1), [there]);
    assert_eq!(guest.send(here), 0);
    assert_eq!(handle(&guest, 0), [here]);
}

#[test]
fn a_masked_event_waits_for_its_unmask() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 1);
    with_vector(&guest, 0);
    let port = guest.ipi(0).expect("ipi");
    mask(&guest, port);
    assert_eq!(guest.send(port), 0);
    assert!(guest.is_pending(port) && !upcall(&guest, 0));
    assert_eq!(guest.unmask(port), 0);
    assert!(upcall(&guest, 0));
    assert_eq!(handle(&guest, 0), [port]);
    mask(&guest, port);
    assert_eq!(guest.unmask(port), 0);
    assert!(!upcall(&guest, 0), "nothing was pending");
    assert_eq!(guest.send(port), 0);
    assert!(upcall(&guest, 0));
}

#[test]
fn a_vector_that_is_set_late_is_told_of_what_waits() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 1);
    let port = guest.ipi(0).expect("ipi");
    assert_eq!(guest.send(port), 0);
    assert!(guest.with_arch(0, |vcpu| vcpu.take_vectors()).is_empty());
    with_vector(&guest, 0);
    assert_eq!(guest.with_arch(0, |vcpu| vcpu.take_vectors()), [VECTOR]);
}

#[test]
fn vcpu_info_moves_with_what_it_holds() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 2);
    let port = guest.ipi(0).expect("ipi");
    assert_eq!(guest.send(port), 0);
    let place = abi::VcpuRegisterVcpuInfo {
        mfn: 5,
        offset: 128,
        rsvd: 0,
    };
    guest.write(PAGE, &place);
    let register = [abi::VCPUOP_REGISTER_VCPU_INFO.into(), 0, PAGE];
    assert_eq!(guest.call(abi::HYPERVISOR_VCPU_OP, &register), 0);
    assert_eq!(guest.read::<u8>(5 * PAGE + 128), 1, "upcall pending");
    assert_eq!(
        guest.read::<u64>(5 * PAGE + 128 + 8),
        u64::MAX,
        "look at all"
    );
    let again = guest.call(abi::HYPERVISOR_VCPU_OP, &register);
    assert_eq!(again, errno(oxen_types::Errno::Inval), "once is enough");
    guest.write(5 * PAGE + 128, &[0u8; 16]);
    let other = guest.ipi(0).expect("ipi");
    assert_eq!(guest.send(other), 0);
    assert_eq!(guest.read::<u64>(5 * PAGE + 128 + 8), 1);
}

fn poll(guest: &Guest, ports: &[u32], timeout: u64) -> i64 {
    guest.write_all(PAGE, ports);
    let mut ask = abi::SchedPoll {
        ports: PAGE,
        nr_ports: ports.len() as u32,
        _pad: 0,
        timeout,
    };
    guest.op(abi::HYPERVISOR_SCHED_OP, abi::SCHEDOP_POLL, &mut ask)
}

#[test]
fn poll_ends_with_an_event_though_it_is_masked() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 1);
    let blocked = || guest.vcpu(0).is_held(Hold::Blocked);
    let (port, other) = (guest.ipi(0).expect("ipi"), guest.ipi(0).expect("ipi"));
    mask(&guest, port);
    mask(&guest, other);
    assert_eq!(poll(&guest, &[port], 0), 0);
    assert!(blocked());
    assert_eq!(guest.send(other), 0);
    assert!(blocked(), "it polls another");
    assert_eq!(guest.send(port), 0);
    assert!(!blocked());
    assert_eq!(poll(&guest, &[port], 0), 0);
    assert!(!blocked(), "still pending");
    assert_eq!(poll(&guest, &[99], 0), errno(oxen_types::Errno::Inval));
    // A timeout ends it too, and one in the past at once.
    assert_eq!(guest.close(port), 0);
    let port = guest.virq(abi::VIRQ_TIMER, 0).expect("timer");
    mask(&guest, port);
    assert_eq!(poll(&guest, &[port], 5_000), 0);
    assert!(blocked());
    assert_eq!(world.machine.timers.next(oxen_types::CpuId(0)), Some(5_000));
    guest.vcpu(0).poll_timed_out();
    assert!(!blocked());
    assert_eq!(poll(&guest, &[port], 1), 0);
    assert!(!blocked());
    // Several ports: any of them.
    assert_eq!(poll(&guest, &[port, 3], 0), errno(oxen_types::Errno::Inval));
    let third = guest.ipi(0).expect("ipi");
    assert_eq!(poll(&guest, &[port, third], 0), 0);
    assert!(blocked());
    raise_virq(&guest.domain, 0, abi::VIRQ_TIMER);
    assert!(!blocked());
    let many = [third; 129];
    assert_eq!(poll(&guest, &many, 0), errno(oxen_types::Errno::Inval));
}

#[test]
fn a_blocked_vcpu_wakes_for_an_upcall_only() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 1);
    with_vector(&guest, 0);
    let port = guest.ipi(0).expect("ipi");
    let block = || guest.call(abi::HYPERVISOR_SCHED_OP, &[abi::SCHEDOP_BLOCK.into(), 0]);
    assert_eq!(block(), 0);
    assert!(guest.vcpu(0).is_held(Hold::Blocked));
    mask(&guest, port);
    assert_eq!(guest.send(port), 0);
    assert!(guest.vcpu(0).is_held(Hold::Blocked), "masked");
    assert_eq!(guest.unmask(port), 0);
    assert!(!guest.vcpu(0).is_held(Hold::Blocked));
    guest.with_arch(0, |vcpu| vcpu.deliverable.store(true, Ordering::SeqCst));
    assert_eq!(block(), 0);
    assert!(
        !guest.vcpu(0).is_held(Hold::Blocked),
        "an interrupt came before it slept"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However sends, masks, unmasks and handling interleave: what was sent is handled or still
    /// pending, and what is pending and unmasked has its upcall raised.
    #[test]
    fn no_event_is_lost(steps in prop::collection::vec((0u8..4, 0usize..6), 1..200)) {
        let (world, _dom0) = World::new();
        let guest = world.guest(1, 1);
        let ports: std::vec::Vec<u32> =
            (0..130).map(|_| guest.ipi(0).expect("ipi")).filter(|p| p % 26 == 1).collect();
        let mut sent = [false; 6];
        let mut masked = [false; 6];
        for (what, which) in steps {
            let which = which % ports.len();
            let port = ports[which];
            match what {
                0 => {
                    guest.send(port);
                    sent[which] = true;
                }
                1 => {
                    mask(&guest, port);
                    masked[which] = true;
                }
                2 => {
                    guest.unmask(port);
                    masked[which] = false;
                }
                _ => {
                    for done in handle(&guest, 0) {
                        let index = ports.iter().position(|p| *p == done);
                        let index = index.expect("a port of ours");
                        prop_assert!(sent[index] && !masked[index]);
                        sent[index] = false;
                    }
                }
            }
            for (index, port) in ports.iter().enumerate() {
                prop_assert_eq!(guest.domain.events.is_pending(&guest.domain, Port(*port)), sent[index]);
                prop_assert!(!sent[index] || masked[index] || upcall(&guest, 0));
            }
        }
    }
}
