//! Log-dirty mode: what is found written is what was.

use alloc::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const GFNS: u64 = 0x600;

/// All gfns that are found written below the end.
fn found(space: &impl GuestMemory, clean: bool) -> BTreeSet<u64> {
    let mut bits = [0; GFNS as usize / 8];
    let count = space.written(g(0), GFNS, &mut bits, clean);
    let set: BTreeSet<u64> = (0..GFNS)
        .filter(|n| bits[(n / 8) as usize] & 1 << (n % 8) != 0)
        .collect();
    assert_eq!(set.len() as u64, count);
    set
}

fn switch(space: &impl GuestMemory, on: bool) {
    let mut at = Some(g(0));
    while let Some(from) = at {
        at = space.log_writes(on, from);
    }
    assert_eq!(space.logs_writes(), on);
}

/// A store of the guest's own: it faults where the entry forbids it.
fn guest_writes<F: Format>(space: &GuestSpace<F>, gfn: u64) {
    for _ in 0..2 {
        if space.leaf(g(gfn)).unwrap().attrs.write {
            return;
        }
        assert!(space.log_write(g(gfn)));
    }
    panic!("gfn {gfn:#x} cannot be written");
}

#[test]
fn large_pages_are_split_by_writes_only() {
    let frames = test_table(0x2000);
    let (space, log) = space(frames);
    space.populate(g(0x200), 9).unwrap();
    assert!(!space.log_write(g(0x200)), "nothing forbids it");
    switch(&space, true);
    assert!(flushes(&log) > 0);
    assert_eq!(space.leaf(g(0x200)).unwrap().level, 2);
    assert!(found(&space, false).is_empty());
    guest_writes(&space, 0x234);
    assert_eq!(space.leaf(g(0x234)).unwrap().level, 1);
    assert_eq!(space.log_faults(false), 1);
    assert_eq!(found(&space, false), [0x234].into());
    assert_eq!(found(&space, true), [0x234].into());
    assert!(found(&space, false).is_empty());
    // Off: nothing is found, everything may be written.
    guest_writes(&space, 0x235);
    switch(&space, false);
    assert!(found(&space, false).is_empty());
    assert!((0x200..0x400).all(|n| space.leaf(g(n)).unwrap().attrs.write));
}

#[test]
fn part_of_a_large_page_loses_nothing() {
    let frames = test_table(0x2000);
    let (space, _) = space(frames);
    switch(&space, true);
    space.populate(g(0x200), 9).unwrap();
    let mut bits = [0; 4];
    assert_eq!(space.written(g(0x210), 20, &mut bits, true), 20);
    assert_eq!(bits, [255, 255, 15, 0]);
    assert_eq!(
        found(&space, false).len(),
        512,
        "new pages count as written"
    );
    assert_eq!(found(&space, true).len(), 512);
    assert_eq!(found(&space, true).len(), 0);
}

#[test]
fn writes_past_the_tables_count() {
    let frames = test_table(0x2000);
    let (space, _) = space(frames);
    let (other, _) = space_of::<Npt>(frames, config(OTHER));
    for n in 0..8 {
        space.populate(g(n), 0).unwrap();
    }
    let shared = frames.alloc(DOM).unwrap();
    space
        .map(g(9), shared.try_clone().unwrap(), MapKind::Xen)
        .unwrap();
    switch(&space, true);
    space.write(g(1).base(), &[1; 4097]).unwrap();
    shared.update(0, |word| word.store(1, Ordering::SeqCst));
    let page = space.page(g(3), true).unwrap();
    page.write(8, &[1]);
    assert_eq!(found(&space, true), [1, 2, 3, 9].into());
    // A mapping counts when it ends, if it could write.
    for (n, writable) in [(4, true), (5, false)] {
        let page = space.page(g(n), true).unwrap();
        let mfn = page.mfn();
        other.map(g(n), page, MapKind::Grant { writable }).unwrap();
        assert!(found(&space, true).is_empty());
        other.unmap(g(n), mfn, MapKind::Grant { writable }).unwrap();
        let expected = if writable {
            [n].into()
        } else {
            BTreeSet::new()
        };
        assert_eq!(found(&space, true), expected);
    }
    // Reading does not, and writing to what is clean still works for the hypervisor.
    let mut byte = [0];
    GuestMemory::read(&space, g(3).base(), &mut byte).unwrap();
    assert!(found(&space, true).is_empty());
    space.move_ram(g(6), g(0x20)).unwrap();
    assert_eq!(found(&space, true), [0x20].into());
}

#[derive(Clone, Debug)]
enum Op {
    Guest(u64),
    Copy(u64, usize),
    Page(u64),
    Populate(u64, u32),
    Release(u64),
    Move(u64, u64),
    Peek,
    Clean,
    Switch(bool),
}

fn ops() -> impl Strategy<Value = Op> {
    let gfn = || prop_oneof![0u64..8, 0x1fcu64..0x204, 0x3f8u64..0x402];
    prop_oneof![
        4 => gfn().prop_map(Op::Guest),
        2 => (gfn(), 1usize..5000).prop_map(|(at, len)| Op::Copy(at, len)),
        2 => gfn().prop_map(Op::Page),
        3 => (gfn(), prop_oneof![Just(0u32), Just(9)])
            .prop_map(|(at, order)| Op::Populate(at & (u64::MAX << order), order)),
        1 => gfn().prop_map(Op::Release),
        1 => (gfn(), gfn()).prop_map(|(from, to)| Op::Move(from, to)),
        2 => Just(Op::Peek),
        2 => Just(Op::Clean),
        1 => any::<bool>().prop_map(Op::Switch),
    ]
}

/// A set of written gfns keeps the books beside it.
fn agrees<F: Format>(list: Vec<Op>) {
    let frames = test_table(0x2800);
    let (space, _) = space_of::<F>(frames, config(DOM));
    let mut on = false;
    let mut written = BTreeSet::new();
    let has = |gfn: u64| space.lookup(g(gfn)).is_some();
    for op in list {
        match op {
            Op::Guest(at) if has(at) => {
                guest_writes(&space, at);
                written.insert(at);
            }
            Op::Guest(_) => {}
            Op::Copy(at, len) => {
                let fits = space.write(g(at).base(), &alloc::vec![1; len]).is_ok();
                let pages = at..at + len.div_ceil(4096) as u64;
                written.extend(pages.take_while(|at| fits || has(*at)));
            }
            Op::Page(at) => {
                if let Ok(page) = space.page(g(at), true) {
                    page.write(100, &[1]);
                    written.insert(at);
                }
            }
            Op::Populate(at, order) => {
                if space.populate(g(at), order).is_ok() {
                    written.extend(at..at + (1 << order));
                }
            }
            Op::Release(at) => {
                if space.release(g(at)).is_ok() {
                    written.remove(&at);
                }
            }
            Op::Move(from, to) => {
                if space.move_ram(g(from), g(to)).is_ok() && from != to {
                    written.remove(&from);
                    written.insert(to);
                }
            }
            Op::Peek if on => assert_eq!(found(&space, false), written),
            Op::Clean if on => {
                assert_eq!(found(&space, true), written);
                written.clear();
            }
            Op::Peek | Op::Clean => assert!(found(&space, true).is_empty()),
            Op::Switch(to) => {
                switch(&space, to);
                on = to;
                written.clear();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn npt_finds_what_was_written(list in prop::collection::vec(ops(), 1..60)) { agrees::<Npt>(list) }
    #[test]
    fn ept_finds_what_was_written(list in prop::collection::vec(ops(), 1..60)) { agrees::<Ept>(list) }
}
