//! A close that meets its peer: whatever the other end does at that moment, the port is closed.

use core::cell::RefCell;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::boxed::Box;
use std::sync::Arc;

use guest_pv_abi as abi;
use oxen_types::{DomainId, Errno, Port};

use super::{Events, NUMBER};
use crate::evtchn;
use crate::testing::{PAGE, World, errno};

std::thread_local! {
    static BETWEEN: RefCell<Option<Box<dyn FnMut()>>> = const { RefCell::new(None) };
}

/// The hook that a test has the peer run after `close` has read the binding and before it holds
/// both locks.
pub(crate) fn between_the_locks() {
    // Taken out, as what it does may close ports too.
    if let Some(mut act) = BETWEEN.with(RefCell::take) {
        act();
    }
}

fn once_between(act: impl FnMut() + 'static) {
    BETWEEN.set(Some(Box::new(act)));
}

#[test]
fn a_close_succeeds_though_the_peer_closes_first() {
    let (world, dom0) = World::new();
    let guest = world.guest(1, 1);
    let port = dom0.alloc(1).expect("port");
    let local = guest.bind(0, port).expect("bound");
    let peer = guest.domain.clone();
    once_between(move || assert_eq!(evtchn::close(&peer, Port(local)), Ok(())));
    assert_eq!(dom0.close(port), 0, "a kernel stops at anything else");
    assert_eq!(dom0.status(port), Ok((abi::EVTCHNSTAT_CLOSED, 0)));
    assert_eq!(guest.status(local), Ok((abi::EVTCHNSTAT_CLOSED, 0)));
    assert_eq!(dom0.domain.events.usage().0, 0);
}

#[test]
fn a_close_succeeds_though_the_peer_binds_anew() {
    let (world, dom0) = World::new();
    let guest = world.guest(1, 1);
    let port = dom0.alloc(1).expect("port");
    let local = guest.bind(0, port).expect("bound");
    let spare = guest.ipi(0).expect("a port");
    let (peer, other) = (guest.domain.clone(), dom0.domain.clone());
    once_between(move || {
        assert_eq!(evtchn::close(&peer, Port(local)), Ok(()));
        assert_eq!(evtchn::close(&peer, Port(spare)), Ok(()));
        // Another number of the peer's leads to the port now.
        let taken = evtchn::alloc_unbound(&peer, DomainId(2)).expect("a port");
        assert_eq!(taken, Port(local));
        let bound = evtchn::ops::bind_interdomain(&peer, &other, Port(port));
        assert_eq!(bound, Ok(Port(spare)));
    });
    assert_eq!(dom0.close(port), 0);
    assert_eq!(guest.status(spare), Ok((abi::EVTCHNSTAT_UNBOUND, 0)));
    assert_eq!(guest.status(local), Ok((abi::EVTCHNSTAT_UNBOUND, 0)));
}

#[test]
fn a_number_that_its_own_domain_uses_anew_stays() {
    let (world, dom0) = World::new();
    let (a, b) = (world.guest(1, 1), world.guest(2, 1));
    let port = dom0.alloc(1).expect("port");
    a.bind(0, port).expect("bound");
    let remote = b.alloc(0).expect("port");
    let (own, other) = (dom0.domain.clone(), b.domain.clone());
    once_between(move || {
        assert_eq!(evtchn::close(&own, Port(port)), Ok(()));
        let bound = evtchn::ops::bind_interdomain(&own, &other, Port(remote));
        assert_eq!(bound, Ok(Port(port)));
    });
    assert_eq!(dom0.close(port), errno(Errno::Inval), "closed by another");
    assert_eq!(dom0.status(port), Ok((abi::EVTCHNSTAT_INTERDOMAIN, 0)));
}

#[test]
fn a_reset_and_an_end_leave_no_port_that_its_peer_closes_meanwhile() {
    let (world, dom0) = World::new();
    let guest = world.guest(1, 1);
    for ends in [false, true] {
        let port = guest.alloc(0).expect("port");
        let local = dom0.bind(1, port).expect("bound");
        let peer = dom0.domain.clone();
        once_between(move || assert_eq!(evtchn::close(&peer, Port(local)), Ok(())));
        if ends {
            world.destroy(&guest.domain);
        } else {
            let dom = DomainId::SELF.0;
            guest.write(PAGE, &abi::EvtchnReset { dom });
            let args = [abi::EVTCHNOP_RESET.into(), PAGE];
            assert_eq!(guest.call(NUMBER, &args), 0);
        }
        assert_eq!(guest.domain.events.usage().0, 0);
    }
}

/// Front and back end close at the same time, as they do when a device goes; and a hostile peer
/// closes and binds all the time. Each close of dom0's succeeds.
#[test]
fn both_ends_at_once() {
    let (world, dom0) = World::new();
    let guest = world.guest(1, 1);
    let (stop, offered) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU32::new(0)),
    );
    let hostile = {
        let (stop, offered) = (stop.clone(), offered.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if let Ok(local) = guest.bind(0, offered.load(Ordering::Relaxed)) {
                    guest.close(local);
                }
            }
        })
    };
    for _ in 0..10_000 {
        let port = evtchn::alloc_unbound(&dom0.domain, DomainId(1)).expect("port");
        offered.store(port.0, Ordering::Relaxed);
        for _ in 0..100 {
            core::hint::spin_loop();
        }
        assert_eq!(evtchn::close(&dom0.domain, port), Ok(()));
    }
    stop.store(true, Ordering::Relaxed);
    hostile.join().expect("it only calls");
    assert_eq!(dom0.domain.events.usage().0, 0);
}
