//! The FIFO ABI, read as a guest reads it: control blocks, queues by priority, and event words.

use core::sync::atomic::{AtomicU32, Ordering};
use std::collections::BTreeSet;
use std::vec::Vec;

use bytemuck::Zeroable;
use guest_pv_abi as abi;
use oxen_types::{Errno, Gfn};
use proptest::prelude::*;

use super::{Events, NUMBER};
use crate::seams::PageRef;
use crate::testing::{Guest, PAGE, World, errno};

/// Frames that the guest gives away: a control block for each vcpu, and an array of events.
const CONTROL: u64 = 8;
const ARRAY: u64 = 10;

const PENDING: u32 = 1 << 31;
const MASKED: u32 = 1 << 30;
const LINKED: u32 = 1 << 29;
const LINK: u32 = (1 << 17) - 1;

/// The guest's side of the queues of one vcpu.
struct Queues {
    control: PageRef,
    array: PageRef,
    heads: [u32; 16],
    ready: u32,
}

impl Queues {
    fn new(guest: &Guest, vcpu: u32) -> Self {
        let page = |gfn: u64| guest.domain.memory.page(Gfn::new(gfn), true).expect("RAM");
        Self {
            control: page(CONTROL + u64::from(vcpu)),
            array: page(ARRAY),
            heads: [0; 16],
            ready: 0,
        }
    }

    fn word(&self, port: u32) -> &AtomicU32 {
        &self.array.words()[port as usize]
    }

    /// One step of Linux's loop (`evtchn_fifo_handle_events`): the next event off the queues, most
    /// urgent first; or None, when all is read. The event may turn out to be masked: then it is not
    /// handled.
    fn step(&mut self) -> Option<Option<u32>> {
        self.ready |= self.control.words()[0].swap(0, Ordering::SeqCst);
        if self.ready == 0 {
            return None;
        }
        let queue = self.ready.trailing_zeros() as usize;
        let mut head = self.heads[queue];
        if head == 0 {
            head = self.control.words()[2 + queue].load(Ordering::SeqCst);
        }
        let word = &self.array.words()[head as usize];
        let link = word
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |w| {
                Some(w & !(LINKED | LINK))
            })
            .expect("always")
            & LINK;
        if link == 0 {
            self.ready &= !(1 << queue);
        }
        self.heads[queue] = link;
        let state = word.load(Ordering::SeqCst);
        if state & PENDING != 0 && state & MASKED == 0 {
            word.fetch_and(!PENDING, Ordering::SeqCst);
            return Some(Some(head));
        }
        Some(None)
    }

    fn drain(&mut self) -> Vec<u32> {
        core::iter::from_fn(|| self.step()).flatten().collect()
    }

    fn mask(&self, port: u32) {
        self.word(port).fetch_or(MASKED, Ordering::SeqCst);
    }
}

fn init(guest: &Guest, vcpu: u32, gfn: u64, offset: u32) -> i64 {
    let mut ask = abi::EvtchnInitControl {
        control_gfn: gfn,
        offset,
        vcpu,
        ..Zeroable::zeroed()
    };
    guest.op(NUMBER, abi::EVTCHNOP_INIT_CONTROL, &mut ask)
}

fn expand(guest: &Guest, array_gfn: u64) -> i64 {
    let mut ask = abi::EvtchnExpandArray { array_gfn };
    guest.op(NUMBER, abi::EVTCHNOP_EXPAND_ARRAY, &mut ask)
}

fn priority(guest: &Guest, port: u32, priority: u32) -> i64 {
    let mut ask = abi::EvtchnSetPriority { port, priority };
    guest.op(NUMBER, abi::EVTCHNOP_SET_PRIORITY, &mut ask)
}

fn start(world: World, vcpus: u32) -> Guest {
    let guest = world.guest(1, vcpus);
    for vcpu in 0..vcpus {
        assert_eq!(init(&guest, vcpu, CONTROL + u64::from(vcpu), 0), 0);
    }
    assert_eq!(expand(&guest, ARRAY), 0);
    guest
}

#[test]
fn events_come_in_the_order_of_sending_and_urgent_ones_first() {
    let (world, _dom0) = World::new();
    let guest = start(world, 1);
    let mut queues = Queues::new(&guest, 0);
    let ports: Vec<u32> = (0..6).map(|_| guest.ipi(0).expect("ipi")).collect();
    for index in [3, 1, 4, 1, 0] {
        guest.send(ports[index]);
    }
    assert_eq!(queues.drain(), [ports[3], ports[1], ports[4], ports[0]]);
    assert_eq!(priority(&guest, ports[5], 0), 0);
    assert_eq!(priority(&guest, ports[2], 15), 0);
    for index in [2, 0, 5] {
        guest.send(ports[index]);
    }
    assert_eq!(queues.drain(), [ports[5], ports[0], ports[2]]);
    assert_eq!(priority(&guest, ports[5], 16), errno(Errno::Inval));
    assert!(queues.drain().is_empty());
}

#[test]
fn each_vcpu_has_its_queues_and_one_upcall() {
    let (world, _dom0) = World::new();
    let guest = start(world, 2);
    let (mut first, mut second) = (Queues::new(&guest, 0), Queues::new(&guest, 1));
    let (a, b) = (guest.ipi(0).expect("ipi"), guest.ipi(1).expect("ipi"));
    let upcalls = |vcpu: usize| {
        let word = guest.domain.shared_info().word(vcpu * 64);
        word.swap(0, Ordering::SeqCst) & 0xff
    };
    guest.send(a);
    guest.send(b);
    assert_eq!((upcalls(0), upcalls(1)), (1, 1));
    assert_eq!((first.drain(), second.drain()), ([a].into(), [b].into()));
    // A port moves to another vcpu while it is queued at the first: it is read where it was queued.
    let remote = guest.alloc(1).expect("port");
    let local = guest.bind(1, remote).expect("bound");
    first.drain();
    guest.send(remote);
    assert_eq!(guest.move_to(local, 1), 0);
    guest.send(remote);
    assert_eq!(
        (first.drain(), second.drain()),
        ([local].into(), Vec::new())
    );
    guest.send(remote);
    assert_eq!(
        (first.drain(), second.drain()),
        (Vec::new(), [local].into())
    );
}

#[test]
fn masked_events_are_queued_by_their_unmask() {
    let (world, _dom0) = World::new();
    let guest = start(world, 1);
    let mut queues = Queues::new(&guest, 0);
    let port = guest.ipi(0).expect("ipi");
    queues.mask(port);
    guest.send(port);
    assert!(queues.drain().is_empty());
    assert_eq!(guest.unmask(port), 0);
    assert_eq!(queues.drain(), [port]);
    // Masked after it was queued: read, not handled, and queued again by the unmask.
    guest.send(port);
    queues.mask(port);
    assert!(queues.drain().is_empty());
    assert_eq!(guest.unmask(port), 0);
    assert_eq!(queues.drain(), [port]);
}

#[test]
fn what_was_pending_before_the_switch_is_not_lost() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 1);
    let (early, quiet) = (guest.ipi(0).expect("ipi"), guest.ipi(0).expect("ipi"));
    guest.send(early);
    assert_eq!(init(&guest, 0, CONTROL, 0), 0);
    guest.send(quiet);
    assert_eq!(expand(&guest, ARRAY), 0);
    assert_eq!(Queues::new(&guest, 0).drain(), [early, quiet]);
}

#[test]
fn a_closed_port_that_is_still_linked_comes_back_clean() {
    let (world, _dom0) = World::new();
    let guest = start(world, 1);
    let mut queues = Queues::new(&guest, 0);
    let (a, b) = (guest.ipi(0).expect("ipi"), guest.ipi(0).expect("ipi"));
    guest.send(a);
    guest.send(b);
    // Closed while queued, and its number is used again at once.
    assert_eq!(guest.close(a), 0);
    assert_eq!(guest.ipi(0), Ok(a));
    assert_eq!(queues.drain(), [b]);
    guest.send(a);
    assert_eq!(queues.drain(), [a]);
}

#[test]
fn hostile_arrays() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 2);
    assert_eq!(expand(&guest, ARRAY), errno(Errno::NoSys), "no FIFO yet");
    assert_eq!(init(&guest, 2, CONTROL, 0), errno(Errno::NoEnt));
    for offset in [4096, 4092, 4, u32::MAX] {
        assert_eq!(init(&guest, 0, CONTROL, offset), errno(Errno::Inval));
    }
    assert_eq!(init(&guest, 0, 1 << 40, 0), errno(Errno::Inval));
    assert_eq!(init(&guest, 0, CONTROL, 4096 - 72), 0);
    assert_eq!(init(&guest, 0, CONTROL, 0), errno(Errno::Inval), "once");
    assert_eq!(expand(&guest, ARRAY), 0);
    let ports: Vec<u32> = (0..8).map(|_| guest.ipi(0).expect("ipi")).collect();
    let page = guest
        .domain
        .memory
        .page(Gfn::new(ARRAY), true)
        .expect("RAM");
    // Links to anywhere, all bits set, cleared under our hands: nobody but the guest suffers.
    for junk in [
        u32::MAX,
        !PENDING,
        LINKED | LINK,
        0,
        LINKED | 1 << 28,
        !LINKED,
    ] {
        for port in &ports {
            guest.send(*port);
            page.words()
                .iter()
                .for_each(|w| w.store(junk, Ordering::SeqCst));
            guest.send(*port);
            guest.unmask(*port);
        }
    }
    for port in ports {
        assert_eq!(guest.close(port), 0);
    }
    // The array can grow to all ports and no further, even with one and the same page.
    let pages = (1..200).take_while(|_| expand(&guest, ARRAY) == 0).count();
    assert_eq!(pages, 127);
    assert_eq!(expand(&guest, ARRAY), errno(Errno::NoSpc));
}

#[test]
fn the_end_gives_all_pages_back() {
    let (world, _dom0) = World::new();
    let free = world.free_frames();
    let guest = start(world, 2);
    for _ in 0..50 {
        let port = guest.ipi(1).expect("ipi");
        guest.send(port);
    }
    world.destroy(&guest.domain);
    assert_eq!(guest.domain.events.usage(), (0, false));
    drop(guest);
    assert_eq!(world.free_frames(), free);
}

#[test]
fn reset_goes_back_to_two_levels() {
    let (world, _dom0) = World::new();
    let guest = start(world, 1);
    guest.ipi(0).expect("ipi");
    let mut ask = abi::EvtchnReset {
        dom: oxen_types::DomainId::SELF.0,
    };
    assert_eq!(guest.op(NUMBER, abi::EVTCHNOP_RESET, &mut ask), 0);
    assert_eq!(guest.domain.events.usage(), (0, false));
    assert_eq!(init(&guest, 0, CONTROL, 0), 0, "a new kernel starts anew");
    assert_eq!(expand(&guest, PAGE), errno(Errno::Inval), "no such page");
}

/// A guest's vcpus switch the FIFO ABI on, grow its array and reset it at the same time (XSA-505):
/// each call finds one ABI or the other, and all pages and memory come back.
#[test]
fn an_array_that_grows_while_it_is_reset() {
    let (world, _dom0) = World::new();
    let free = world.free_frames();
    let guest = world.guest(1, 1);
    let domain = guest.domain.clone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..3000 {
                let grown = crate::evtchn::ops::expand_array(&domain, Gfn::new(ARRAY));
                assert!(matches!(grown, Ok(()) | Err(Errno::NoSys | Errno::NoSpc)));
            }
        });
        scope.spawn(|| {
            for _ in 0..3000 {
                if let Ok(port) = crate::evtchn::alloc_unbound(&domain, domain.id) {
                    let _ = crate::evtchn::send(&domain, port);
                    // The reset may have closed the port already.
                    let closed = crate::evtchn::close(&domain, port);
                    assert!(matches!(closed, Ok(()) | Err(Errno::Inval)));
                }
            }
        });
        for _ in 0..1000 {
            let done = init(&guest, 0, CONTROL, 0);
            assert!(done == 0 || done == errno(Errno::Inval));
            let dom = oxen_types::DomainId::SELF.0;
            let mut ask = abi::EvtchnReset { dom };
            guest.op(NUMBER, abi::EVTCHNOP_RESET, &mut ask);
        }
    });
    assert_eq!(expand(&guest, ARRAY), errno(Errno::NoSys), "reset last");
    world.destroy(&guest.domain);
    assert_eq!(guest.domain.heap.used(), 0);
    drop((guest, domain));
    assert_eq!(world.free_frames(), free);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Sends, masks, unmasks, changes of priority, and a guest that reads a few events at a time:
    /// each pending event that is not masked is read in the end, and the words say so.
    #[test]
    fn no_event_is_lost(steps in prop::collection::vec((0u8..6, 0usize..8, 0u32..16), 1..300)) {
        let (world, _dom0) = World::new();
        let guest = start(world, 1);
        let mut queues = Queues::new(&guest, 0);
        let ports: Vec<u32> = (0..8).map(|_| guest.ipi(0).expect("ipi")).collect();
        let mut sent = BTreeSet::new();
        let read = |queues: &mut Queues, sent: &mut BTreeSet<u32>| -> Result<bool, TestCaseError> {
            match queues.step() {
                None => return Ok(false),
                Some(Some(port)) => prop_assert!(sent.remove(&port), "{} was not sent", port),
                Some(None) => {}
            }
            Ok(true)
        };
        for (what, which, level) in steps {
            let port = ports[which];
            match what {
                0 | 1 => {
                    guest.send(port);
                    sent.insert(port);
                }
                2 => queues.mask(port),
                3 => prop_assert_eq!(guest.unmask(port), 0),
                4 => prop_assert_eq!(priority(&guest, port, level), 0),
                _ => {
                    read(&mut queues, &mut sent)?;
                }
            }
        }
        for port in &ports {
            guest.unmask(*port);
        }
        while read(&mut queues, &mut sent)? {}
        prop_assert!(sent.is_empty(), "lost: {:?}", sent);
        for port in ports {
            prop_assert_eq!(queues.word(port).load(Ordering::SeqCst), 0);
        }
    }
}
