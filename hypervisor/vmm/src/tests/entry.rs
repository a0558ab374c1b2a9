//! Entries against flushes.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::vec::Vec;

use oxen_mm::{Cause, FlushGuest};
use oxen_paging::shadow::{Change, P2mFlush};
use oxen_types::{CpuId, DomainId, Gfn};

use crate::flush::{Flush, FlushHandle};
use crate::percpu::{Expel, PerCpu};
use crate::testing::Lab;
use crate::testing::backend::Act;
use crate::testing::host::{Did, become_cpu};

fn flushes(acts: &[Act]) -> usize {
    acts.iter().filter(|act| **act == Act::FlushTlb).count()
}

#[test]
fn an_entry_flushes_once_after_each_flush_of_the_domain() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    guest.run(0);
    assert_eq!(flushes(&guest.script(0).take()), 1, "the first entry");
    guest.run(0);
    assert_eq!(flushes(&guest.script(0).take()), 0);
    guest.domain.memory.flush();
    guest.domain.memory.flush();
    guest.run(0);
    let acts = guest.script(0).take();
    assert_eq!(flushes(&acts), 1);
    let at = |act| acts.iter().position(|other| *other == act);
    assert!(at(Act::FlushTlb) < at(Act::Run));
}

#[test]
fn a_flush_between_two_entries_of_one_run_is_seen() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    guest.run(0);
    guest.script(0).take();
    let memory = guest.domain.clone();
    guest.script(0).then(move |_| {
        // This CPU makes others leave, not itself: it sees the generation before it enters again.
        memory.memory.flush();
        oxen_virt::Exit::Settled
    });
    guest.run(0);
    let acts = guest.script(0).take();
    let runs: Vec<_> = acts
        .iter()
        .filter(|act| matches!(act, Act::Run | Act::FlushTlb))
        .collect();
    assert_eq!(runs, [&Act::Run, &Act::FlushTlb, &Act::Run]);
}

#[test]
fn a_flush_kicks_who_is_inside_and_returns_when_they_are_out() {
    let lab = Lab::new();
    let guest = lab.guest(2);
    let (vmm, fake, id) = (lab.vmm, lab.fake, guest.domain.id);
    let flush = guest.hvm.flush.clone();
    let before = flush.generation();
    become_cpu(1);
    vmm.cpu(CpuId(1)).enter_guest(id);
    become_cpu(0);
    let turns = Arc::new(AtomicU64::new(0));
    let counted = turns.clone();
    fake.on_poll(move || {
        assert!(
            flush.generation() > before,
            "raised before anybody is kicked"
        );
        if counted.fetch_add(1, Ordering::SeqCst) == 3 {
            vmm.cpu(CpuId(1)).leave_guest();
        }
    });
    guest.domain.memory.flush();
    assert_eq!(fake.take(), [Did::Kick(1)]);
    assert_eq!(turns.load(Ordering::SeqCst), 4);
}

#[test]
fn a_flush_leaves_alone_who_is_not_inside() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    lab.vmm.cpu(CpuId(1)).enter_guest(DomainId(99));
    guest.domain.memory.flush();
    assert_eq!(lab.fake.take(), []);
}

#[test]
fn the_cpu_that_flushes_does_not_wait_for_itself() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    lab.vmm.cpu(CpuId(0)).enter_guest(guest.domain.id);
    guest.domain.memory.flush();
    assert_eq!(lab.fake.take(), []);
}

/// A CPU that is in a guest: it enters, reads the generation, uses translations of it, leaves.
/// Another raises the generation and makes it leave. Once that has returned, nobody uses an older
/// generation.
#[test]
fn no_entry_uses_translations_that_a_flush_has_ended() {
    const ROUNDS: u64 = 20_000;
    const ID: DomainId = DomainId(3);
    static CPU: PerCpu = PerCpu::new();

    struct Waits;
    impl Expel for Waits {
        fn expel(&self, domain: DomainId) {
            let entry = CPU.inside(domain);
            while entry.is_some() && CPU.inside(domain) == entry {
                core::hint::spin_loop();
                thread::yield_now();
            }
        }
    }
    static CPUS: Waits = Waits;

    let flush = Flush::new(ID, &CPUS, false);
    let (ended, done) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let barrier = Arc::new(Barrier::new(2));
    let guest = {
        let (flush, ended, done) = (flush.clone(), ended.clone(), done.clone());
        let barrier = barrier.clone();
        thread::spawn(move || {
            barrier.wait();
            while !done.load(Ordering::SeqCst) {
                CPU.enter_guest(ID);
                let used = flush.generation();
                for _ in 0..8 {
                    assert!(used > ended.load(Ordering::SeqCst), "a stale translation");
                }
                CPU.leave_guest();
            }
        })
    };
    barrier.wait();
    let handle = FlushHandle(flush.clone());
    for _ in 0..ROUNDS {
        let old = flush.generation();
        handle.flush(Cause::Many);
        ended.store(old, Ordering::SeqCst);
    }
    done.store(true, Ordering::SeqCst);
    guest.join().expect("no stale translation");
}

struct Nobody;

impl Expel for Nobody {
    fn expel(&self, _: DomainId) {}
}

fn changes(flush: &Flush, since: u64) -> Option<Vec<Change>> {
    let mut all = Vec::new();
    let known = flush.changes_since(since, &mut |change| all.push(change));
    known.then_some(all)
}

#[test]
fn the_changes_since_a_generation_are_known_as_far_as_there_is_room() {
    let flush = Flush::new(DomainId(1), &Nobody, true);
    let handle = FlushHandle(flush.clone());
    let start = flush.generation();
    handle.flush(Cause::Pages(&[Gfn::new(5), Gfn::new(6)]));
    handle.flush(Cause::Guest);
    let pages = [Change::Page(Gfn::new(5)), Change::Page(Gfn::new(6))];
    assert_eq!(
        changes(&flush, start),
        Some([&pages[..], &[Change::Guest]].concat())
    );
    assert_eq!(changes(&flush, start + 1), Some(vec![Change::Guest]));
    assert_eq!(changes(&flush, start + 2), Some(vec![]));
    for _ in 0..128 {
        handle.flush(Cause::Many);
    }
    assert_eq!(changes(&flush, start), None, "the first are forgotten");
    assert_eq!(
        changes(&flush, flush.generation() - 1),
        Some(vec![Change::Many])
    );
    let nested = Flush::new(DomainId(1), &Nobody, false);
    assert_eq!(
        changes(&nested, nested.generation()),
        None,
        "kept for shadows only"
    );
}
