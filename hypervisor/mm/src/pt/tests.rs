//! The engine against a plain map, in all three formats, and against a walker on another thread.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use oxen_types::Mfn;
use proptest::prelude::*;

use super::*;
use crate::Phys;

struct Pool {
    phys: Phys,
    free: Vec<Mfn>,
}

impl Pool {
    fn new(pages: u64) -> Self {
        Self {
            phys: Phys::arena(pages),
            free: (0..pages).map(Mfn::new).collect(),
        }
    }
}

impl TableAccess for Pool {
    fn table(&self, mfn: Mfn) -> &'static Table {
        TableAccess::table(&self.phys, mfn)
    }
}

impl TablePool for Pool {
    fn alloc(&mut self) -> Option<Mfn> {
        let mfn = self.free.pop()?;
        self.phys.zero(mfn, 1);
        Some(mfn)
    }
    fn free(&mut self, table: Mfn) {
        assert!(!self.free.contains(&table));
        assert!(
            is_empty(self.table(table)),
            "a table was freed with entries in it"
        );
        for entry in self.table(table) {
            entry.store(0xdead_0000_0000_0fff, Ordering::Relaxed);
        }
        self.free.push(table);
    }
}

fn attrs(bits: u8) -> Attrs {
    Attrs {
        write: bits & 1 != 0,
        exec: bits & 2 != 0,
        cached: bits & 4 != 0,
        fixed: false,
        tag: bits >> 3 & 15,
    }
}

#[derive(Clone, Debug)]
enum Op {
    Map {
        page: u64,
        mfn: u64,
        level: u32,
        attrs: u8,
    },
    Replace {
        page: u64,
        mfn: u64,
        attrs: u8,
    },
    Unmap {
        page: u64,
        level: u32,
    },
    Protect {
        page: u64,
        level: u32,
        attrs: u8,
    },
}

/// Pages around the borders of two 1 GiB regions that share no table below the root.
fn pages() -> impl Strategy<Value = u64> {
    let near = prop_oneof![0u64..4, 510u64..516, 1022u64..1026, 0x3fffcu64..0x40000];
    (
        near,
        prop_oneof![Just(0u64), Just(1 << 27), Just(0xf_ff80_0000)],
    )
        .prop_map(|(n, base)| base + n)
}

fn ops() -> impl Strategy<Value = Op> {
    let align = |n: u64, level: u32| n & !(pages_at(level) - 1);
    prop_oneof![
        3 => (pages(), 0u64..1 << 24, 1u32..=3, any::<u8>()).prop_map(move |(page, mfn, level, attrs)| Op::Map {
            page: align(page, level), mfn: align(mfn, level), level, attrs
        }),
        2 => (pages(), 0u64..1 << 24, any::<u8>()).prop_map(|(page, mfn, attrs)| Op::Replace { page, mfn, attrs }),
        3 => (pages(), 1u32..=3).prop_map(move |(page, level)| Op::Unmap { page: align(page, level), level }),
        1 => (pages(), 1u32..=3, any::<u8>()).prop_map(move |(page, level, attrs)| Op::Protect {
            page: align(page, level), level, attrs
        }),
    ]
}

/// The frame and attributes of each 4 KiB page, kept as runs that are split where needed.
#[derive(Default)]
struct Model(BTreeMap<u64, (u64, u64, Attrs)>);

impl Model {
    fn at(&self, page: u64) -> Option<(u64, Attrs)> {
        let (start, (len, mfn, attrs)) = self.0.range(..=page).next_back()?;
        (page < start + len).then(|| (mfn + page - start, *attrs))
    }
    fn cut(&mut self, at: u64) {
        if let Some((&start, &(len, mfn, attrs))) = self.0.range(..at).next_back()
            && at < start + len
        {
            self.0.insert(start, (at - start, mfn, attrs));
            self.0
                .insert(at, (start + len - at, mfn + at - start, attrs));
        }
    }
    fn set(&mut self, page: u64, count: u64, to: Option<(u64, Attrs)>) {
        self.cut(page);
        self.cut(page + count);
        let inside: Vec<u64> = self.0.range(page..page + count).map(|(k, _)| *k).collect();
        for key in inside {
            self.0.remove(&key);
        }
        if let Some((mfn, attrs)) = to {
            self.0.insert(page, (count, mfn, attrs));
        }
    }
    fn is_free(&self, page: u64, count: u64) -> bool {
        self.at(page).is_none() && self.0.range(page..page + count).next().is_none()
    }
}

/// A page that is mapped in the model may be unmapped at a level only if the tree holds it in a
/// leaf of at least that level; the walk tells, and the model tells what the walk has to say.
fn agrees<F: Format>(list: Vec<Op>) {
    let mut pool = Pool::new(64);
    let all = pool.free.len();
    let tables = PageTable::<F>::new(&mut pool).unwrap();
    let mut model = Model::default();
    let mut probes: Vec<u64> = Vec::new();
    for op in list {
        match op {
            Op::Map {
                page,
                mfn,
                level,
                attrs: a,
            } => {
                let free = model.is_free(page, pages_at(level));
                match tables.map(&mut pool, page, Mfn::new(mfn), level, attrs(a)) {
                    Ok(()) => {
                        assert!(free);
                        model.set(page, pages_at(level), Some((mfn, attrs(a))));
                    }
                    Err(MapError::Occupied) => assert!(!free),
                    Err(MapError::NoMemory) => assert!(pool.free.len() < 3),
                }
                probes.extend([page, page + pages_at(level) - 1]);
            }
            Op::Replace {
                page,
                mfn,
                attrs: a,
            } => {
                let expected = model.at(page);
                if let Ok(old) = tables.replace(&mut pool, page, Mfn::new(mfn), attrs(a)) {
                    assert_eq!(old.map(|l| (l.mfn.raw(), l.attrs)), expected);
                    model.set(page, 1, Some((mfn, attrs(a))));
                }
                probes.push(page);
            }
            Op::Unmap { page, level } | Op::Protect { page, level, .. } => {
                let there = matches!(tables.walk(&pool, page), Walk::Leaf(l) if l.level >= level);
                let expected = model.at(page).filter(|_| there);
                let (result, new) = match op {
                    Op::Protect { attrs: a, .. } => {
                        let result = tables.protect(&mut pool, page, level, attrs(a));
                        (result, expected.map(|(mfn, _)| (mfn, attrs(a))))
                    }
                    _ => (tables.unmap(&mut pool, page, level), None),
                };
                if let Ok(old) = result {
                    assert_eq!(old.map(|l| (l.mfn.raw(), l.attrs)), expected);
                    assert!(old.is_none_or(|l| l.level == level));
                    if there {
                        model.set(page, pages_at(level), new);
                    }
                }
            }
        }
        for &page in &probes {
            for page in [page.saturating_sub(1), page, page + 1] {
                let found = match tables.walk(&pool, page) {
                    Walk::Leaf(leaf) => Some((leaf.mfn.raw(), leaf.attrs)),
                    Walk::Absent { .. } => None,
                };
                assert_eq!(found, model.at(page), "page {page:#x}");
            }
        }
    }
    // All that is mapped comes out of the drain, in bounded steps, and all tables come back.
    let mut pages = 0;
    let mut steps = 0;
    while !tables.drain(&mut pool, 3, |leaf| pages += pages_at(leaf.level)) {
        steps += 1;
        assert!(steps < 10_000);
    }
    assert_eq!(pages, model.0.values().map(|(len, ..)| len).sum::<u64>());
    assert_eq!(pool.free.len(), all - 1);
    tables.free_root(&mut pool);
    assert_eq!(pool.free.len(), all);
}

proptest! {
    #[test]
    fn host_agrees_with_a_plain_map(list in prop::collection::vec(ops(), 1..60)) { agrees::<Host>(list) }
    #[test]
    fn npt_agrees_with_a_plain_map(list in prop::collection::vec(ops(), 1..60)) { agrees::<Npt>(list) }
    #[test]
    fn ept_agrees_with_a_plain_map(list in prop::collection::vec(ops(), 1..60)) { agrees::<Ept>(list) }
}

#[test]
fn ranges_use_the_largest_leaves_that_fit() {
    let mut pool = Pool::new(16);
    let tables = PageTable::<Host>::new(&mut pool).unwrap();
    let a = attrs(5);
    tables
        .map_range(
            &mut pool,
            0x3fe00,
            Mfn::new(0x3fe00),
            0x40000 + 0x400 + 1,
            a,
            3,
        )
        .unwrap();
    let level_of = |pool: &Pool, page| match tables.walk(pool, page) {
        Walk::Leaf(leaf) => leaf.level,
        Walk::Absent { .. } => 0,
    };
    let levels: Vec<u32> = [0x3fe00, 0x40000, 0x7ffff, 0x80000, 0x80200, 0x80201]
        .map(|p| level_of(&pool, p))
        .into();
    assert_eq!(levels, [2, 3, 3, 2, 1, 0]);
}

#[test]
fn without_memory_nothing_changes() {
    let mut pool = Pool::new(3);
    let tables = PageTable::<Npt>::new(&mut pool).unwrap();
    // Two tables are there, three are needed: the two come back.
    assert_eq!(
        tables.map(&mut pool, 0, Mfn::new(1), 1, attrs(7)),
        Err(MapError::NoMemory)
    );
    assert_eq!(pool.free.len(), 2);
    tables
        .map(&mut pool, 0, Mfn::new(0x200), 2, attrs(7))
        .unwrap();
    assert_eq!(tables.unmap(&mut pool, 5, 1), Err(NoMemory));
    assert!(matches!(tables.walk(&pool, 5), Walk::Leaf(leaf) if leaf.mfn == Mfn::new(0x205)));
    assert_eq!(
        tables.unmap(&mut pool, 0, 2).unwrap().unwrap().mfn,
        Mfn::new(0x200)
    );
    assert_eq!(pool.free.len(), 2);
}

/// Ends the walker when the test fails, too.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A walker that runs beside splits and changes of neighbours sees its pages in their place all the
/// time.
#[test]
fn a_concurrent_walker_never_sees_a_gap() {
    const REGIONS: u64 = 100;
    let watched = |region: u64| region * pages_at(3) + 0x12345;
    let mut pool = Pool::new(3 * REGIONS + 2);
    let phys = pool.phys;
    let tables = PageTable::<Npt>::new(&mut pool).unwrap();
    for region in 0..REGIONS {
        let at = region * pages_at(3);
        tables
            .map(&mut pool, at, Mfn::new(at), 3, attrs(7))
            .unwrap();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let walker = scope.spawn(|| {
            let mut rounds = 0u64;
            while !done.load(Ordering::Relaxed) || rounds < 10 {
                for page in (0..REGIONS).map(watched) {
                    let Walk::Leaf(leaf) = tables.walk(&phys, page) else {
                        panic!("page {page:#x} vanished");
                    };
                    assert_eq!(leaf.mfn.raw(), page);
                }
                rounds += 1;
            }
        });
        let stop = SetOnDrop(&done);
        for page in (0..REGIONS).map(watched) {
            for neighbour in [page - 1, page + 1, page - 0x200] {
                let old = tables.unmap(&mut pool, neighbour, 1).unwrap().unwrap();
                assert_eq!(old.mfn.raw(), neighbour);
                tables
                    .map(&mut pool, neighbour, old.mfn, 1, old.attrs)
                    .unwrap();
            }
            tables.protect(&mut pool, page, 1, attrs(0)).unwrap();
        }
        drop(stop);
        walker.join().unwrap();
    });
}
