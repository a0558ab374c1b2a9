//! Bindings of ports: by whom, how often, and what is left when one end goes.

use guest_pv_abi as abi;
use oxen_types::{DomainId, Errno, Port};

use super::Events;
use crate::evtchn::{raise_virq, send};
use crate::testing::{World, config, errno};

const INVAL: i64 = Errno::Inval.to_abi();

#[test]
fn only_the_domain_that_it_was_made_for_binds_a_port() {
    let (world, dom0) = World::new();
    let (a, b) = (world.guest(1, 1), world.guest(2, 1));
    let port = a.alloc(2).expect("port");
    assert_eq!(a.status(port), Ok((abi::EVTCHNSTAT_UNBOUND, 0)));
    assert_eq!(dom0.bind(1, port), Err(INVAL));
    assert_eq!(b.bind(1, port + 1), Err(INVAL));
    assert_eq!(b.bind(9, port), Err(errno(Errno::Srch)));
    let local = b.bind(1, port).expect("bound");
    assert_eq!(b.bind(1, port), Err(INVAL), "it is bound already");
    assert_eq!(a.status(port), Ok((abi::EVTCHNSTAT_INTERDOMAIN, 0)));
    // Who binds is told at once, as the other end may have sent before.
    assert!(b.is_pending(local) && !a.is_pending(port));
    assert_eq!(b.send(local), 0);
    assert!(a.is_pending(port));
}

#[test]
fn a_closed_end_leaves_the_other_unbound() {
    let (world, _dom0) = World::new();
    let (a, b) = (world.guest(1, 1), world.guest(2, 1));
    let port = a.alloc(2).expect("port");
    let local = b.bind(1, port).expect("bound");
    assert_eq!(b.close(local), 0);
    assert_eq!(b.close(local), INVAL);
    assert_eq!(b.status(local), Ok((abi::EVTCHNSTAT_CLOSED, 0)));
    assert_eq!(a.status(port), Ok((abi::EVTCHNSTAT_UNBOUND, 0)));
    assert_eq!(a.send(port), 0, "nobody hears it");
    // The number is used again: what the old peer sends must not reach the new use.
    assert_eq!(b.alloc(0), Ok(local));
    assert_eq!(send(&a.domain, Port(port)), Ok(()));
    assert!(!b.is_pending(local));
    assert_eq!(b.bind(1, port), Ok(local + 1), "it may be bound anew");
}

#[test]
fn both_ends_may_be_in_one_domain() {
    let (world, _dom0) = World::new();
    let a = world.guest(1, 1);
    let port = a.alloc(DomainId::SELF.0).expect("port");
    let local = a.bind(DomainId::SELF.0, port).expect("bound");
    assert_ne!(port, local);
    assert_eq!(a.send(port), 0);
    assert!(a.is_pending(local));
    assert_eq!(a.close(port), 0);
    assert_eq!(a.status(local), Ok((abi::EVTCHNSTAT_UNBOUND, 0)));
    assert_eq!(a.close(local), 0);
    assert_eq!(a.domain.events.usage().0, 0);
}

#[test]
fn the_end_of_a_domain_unbinds_its_peers() {
    let (world, _dom0) = World::new();
    let free = world.free_frames();
    let (a, b) = (world.guest(1, 1), world.guest(2, 1));
    let port = a.alloc(2).expect("port");
    b.bind(1, port).expect("bound");
    world.destroy(&b.domain);
    assert_eq!(a.status(port), Ok((abi::EVTCHNSTAT_UNBOUND, 0)));
    assert_eq!(a.bind(2, 1), Err(errno(Errno::Srch)));
    drop(b);
    world.destroy(&a.domain);
    drop(a);
    assert_eq!(world.free_frames(), free);
}

#[test]
fn nothing_binds_to_a_dying_domain() {
    let (world, dom0) = World::new();
    let a = world.guest(1, 1);
    let port = a.alloc(0).expect("port");
    a.vcpu(0).set_cpu(Some(oxen_types::CpuId(1)));
    assert!(!a.domain.destroy_step(1), "it still runs");
    assert_eq!(dom0.bind(1, port), Err(INVAL));
    let mut ask = abi::EvtchnAllocUnbound {
        dom: 1,
        remote_dom: 0,
        port: 0,
    };
    assert_eq!(
        dom0.op(super::NUMBER, abi::EVTCHNOP_ALLOC_UNBOUND, &mut ask),
        INVAL
    );
}

#[test]
fn virqs_are_bound_once_and_where_they_belong() {
    let (world, dom0) = World::new();
    let a = world.guest(1, 2);
    let timer = a.virq(abi::VIRQ_TIMER, 1).expect("timer");
    assert_eq!(a.virq(abi::VIRQ_TIMER, 1), Err(errno(Errno::Exist)));
    assert_eq!(a.status(timer), Ok((abi::EVTCHNSTAT_VIRQ, 1)));
    assert_eq!(a.virq(abi::VIRQ_TIMER, 2), Err(errno(Errno::NoEnt)));
    let silent = a.virq(abi::VIRQ_DOM_EXC, 0).expect("allowed");
    assert_eq!(a.virq(abi::VIRQ_DOM_EXC, 0), Err(errno(Errno::Exist)));
    assert!(a.virq(abi::VIRQ_XENPMU, 1).is_ok(), "each vcpu's own");
    assert_eq!(dom0.virq(abi::VIRQ_DOM_EXC, 1), Err(INVAL));
    assert_eq!(dom0.virq(24, 0), Err(INVAL));
    let exception = dom0.virq(abi::VIRQ_DOM_EXC, 0).expect("exceptions");
    assert_eq!(a.move_to(timer, 0), INVAL, "it is that vcpu's own");
    assert_eq!(dom0.move_to(exception, 1), 0, "it is the domain's");
    raise_virq(&a.domain, 0, abi::VIRQ_TIMER);
    assert!(!a.is_pending(timer), "another vcpu's");
    raise_virq(&a.domain, 1, abi::VIRQ_TIMER);
    assert!(a.is_pending(timer));
    a.shut_down(abi::SHUTDOWN_CRASH);
    assert!(dom0.is_pending(exception));
    assert!(!a.is_pending(silent), "the machine's events are dom0's");
    assert_eq!(a.send(timer), INVAL, "only the hypervisor raises it");
    assert_eq!(a.close(timer), 0);
    assert!(a.virq(abi::VIRQ_TIMER, 1).is_ok());
}

#[test]
fn ports_have_limits() {
    let (world, _dom0) = World::new();
    let domain = world.domain(
        1,
        crate::domain::DomainConfig {
            max_ports: 3,
            ..config(false, 1)
        },
    );
    domain.memory.set_max_frames(64);
    let a = crate::testing::Guest::start(domain);
    for port in 1..=3 {
        assert_eq!(a.ipi(0), Ok(port));
    }
    assert_eq!(a.ipi(0), Err(errno(Errno::NoSpc)));
    assert_eq!(a.ipi(7), Err(errno(Errno::NoEnt)));
    assert_eq!(a.close(2), 0);
    assert_eq!(a.ipi(0), Ok(2), "the lowest free one");
    // 4096 with the 2-level ABI, whatever the limit.
    let b = world.guest(2, 1);
    let all = (0..5000).take_while(|_| b.ipi(0).is_ok()).count();
    assert_eq!(all, 4095);
    for port in [0, 4095 + 1, u32::MAX] {
        assert_eq!(b.send(port), INVAL);
        assert_eq!(b.close(port), INVAL);
        assert_eq!(b.unmask(port), INVAL);
    }
}

#[test]
fn a_reset_closes_all_in_parts() {
    let (world, _dom0) = World::new();
    let a = world.guest(1, 1);
    for _ in 0..1500 {
        assert!(a.ipi(0).is_ok());
    }
    let ask = abi::EvtchnReset {
        dom: DomainId::SELF.0,
    };
    a.write(crate::testing::PAGE, &ask);
    let args = [abi::EVTCHNOP_RESET.into(), crate::testing::PAGE];
    assert_eq!(a.call_on(0, super::NUMBER, &args), (0, 3));
    assert_eq!(a.domain.events.usage().0, 0);
}

/// With a full table, and with one port free at either end, an attempt looks at a few leaves only.
#[test]
fn a_full_table_is_not_searched() {
    let (world, _dom0) = World::new();
    let domain = world.domain(
        1,
        crate::domain::DomainConfig {
            max_ports: 6000,
            ..config(false, 1)
        },
    );
    domain.memory.set_max_frames(64);
    let a = crate::testing::Guest::start(domain);
    let mut control = abi::EvtchnInitControl {
        control_gfn: 5,
        ..bytemuck::Zeroable::zeroed()
    };
    let number = super::NUMBER;
    assert_eq!(a.op(number, abi::EVTCHNOP_INIT_CONTROL, &mut control), 0);
    let alloc = || crate::evtchn::alloc_unbound(&a.domain, DomainId(0));
    while alloc().is_ok() {}
    for port in [1, 6000, 3000, 1] {
        assert_eq!(a.close(port), 0);
        crate::evtchn::ports::take_looked_at();
        assert_eq!(alloc(), Ok(Port(port)));
        assert_eq!(alloc(), Err(Errno::NoSpc));
        assert_eq!(alloc(), Err(Errno::NoSpc));
        let looked_at = crate::evtchn::ports::take_looked_at();
        assert!(looked_at <= 6, "{looked_at} leaves of 47");
    }
}

#[test]
fn a_dump_is_bounded_and_asks_for_its_memory() {
    let (world, _dom0) = World::new();
    let a = world.guest(1, 1);
    for _ in 0..600 {
        a.ipi(0).expect("ipi");
    }
    let dump = |text: &mut crate::fallible::Text| {
        crate::testing::heap::in_core(|| a.domain.events.dump(&a.domain, text))
    };
    let mut text = crate::fallible::Text::default();
    crate::testing::heap::fail_after(3);
    assert!(dump(&mut text).is_err(), "no memory for the rest");
    crate::testing::heap::fail(0, 0);
    let mut text = crate::fallible::Text::default();
    assert!(crate::testing::heap::large(|| dump(&mut text)).is_ok());
    assert_eq!(text.lines().count(), 513);
    assert_eq!(text.lines().last(), Some("  and 88 more"));
}
