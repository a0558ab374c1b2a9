//! Random operations against a plain map of gfns.

use alloc::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const GFNS: u64 = 0x800;

#[derive(Clone, Debug)]
enum Op {
    Populate(u64, u32),
    Release(u64),
    Move(u64, u64),
    /// Maps or unmaps the shared page.
    Map(u64, MapKind),
    Unmap(u64, MapKind),
    MapMmio(u64, u64),
    UnmapMmio(u64, u64),
    Write(u64),
}

fn gfn() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..8, 0x1fcu64..0x204, 0x3f8u64..0x400, 0x600u64..0x604]
}

fn kind() -> impl Strategy<Value = MapKind> {
    prop_oneof![
        Just(MapKind::Xen),
        Just(MapKind::Foreign),
        any::<bool>().prop_map(|writable| MapKind::Grant { writable }),
    ]
}

fn ops() -> impl Strategy<Value = Op> {
    let device = || (gfn(), prop_oneof![1u64..4, Just(0x200u64), Just(0x203)]);
    prop_oneof![
        3 => (gfn(), prop_oneof![Just(0u32), Just(1), Just(9), Just(10)])
            .prop_map(|(at, order)| Op::Populate(at & (u64::MAX << order), order)),
        2 => gfn().prop_map(Op::Release),
        1 => (gfn(), gfn()).prop_map(|(from, to)| Op::Move(from, to)),
        2 => (gfn(), kind()).prop_map(|(at, kind)| Op::Map(at, kind)),
        2 => (gfn(), kind()).prop_map(|(at, kind)| Op::Unmap(at, kind)),
        1 => device().prop_map(|(at, n)| Op::MapMmio(at, n)),
        1 => device().prop_map(|(at, n)| Op::UnmapMmio(at, n)),
        2 => gfn().prop_map(Op::Write),
    ]
}

/// The memory that the domain should see: kinds, and the first byte of its RAM.
type Model = BTreeMap<u64, (MapKind, u8)>;

/// Carries an operation out on the model: its result, and whether anything was taken away.
fn expect(model: &mut Model, op: &Op, mark: u8) -> (Result<()>, bool) {
    let kind_at = |model: &Model, at: &u64| model.get(at).map(|(kind, _)| *kind);
    let check = |there: Option<MapKind>| match there {
        Some(MapKind::Grant { .. } | MapKind::Mmio) => Err(Errno::Busy),
        _ => Ok(()),
    };
    match op {
        Op::Populate(at, order) => {
            let range = *at..at + (1 << order);
            if model.range(range.clone()).next().is_some() {
                return (Err(Errno::Exist), false);
            }
            model.extend(range.map(|at| (at, (MapKind::Ram, 0))));
            (Ok(()), false)
        }
        Op::Release(at) => match kind_at(model, at) {
            Some(MapKind::Ram) => (Ok(()), model.remove(at).is_some()),
            Some(_) => (Err(Errno::Inval), false),
            None => (Err(Errno::NoEnt), false),
        },
        Op::Move(from, to) => {
            if kind_at(model, from) != Some(MapKind::Ram) {
                return (Err(Errno::Inval), false);
            }
            let fits = if from == to {
                Ok(())
            } else {
                check(kind_at(model, to))
            };
            let moves = from != to && fits.is_ok();
            if moves && let Some(page) = model.remove(from) {
                model.insert(*to, page);
            }
            (fits, moves)
        }
        Op::Map(at, kind) => {
            let fits = check(kind_at(model, at));
            let replaces = fits.is_ok() && model.insert(*at, (*kind, 0)).is_some();
            (fits, replaces)
        }
        Op::Unmap(at, kind) if kind_at(model, at) == Some(*kind) => {
            model.remove(at);
            (Ok(()), true)
        }
        Op::Unmap(..) => (Err(Errno::NoEnt), false),
        Op::MapMmio(at, count) => {
            for at in *at..at + count {
                if !matches!(kind_at(model, &at), None | Some(MapKind::Mmio)) {
                    return (Err(Errno::Exist), false);
                }
                model.insert(at, (MapKind::Mmio, 0));
            }
            (Ok(()), false)
        }
        Op::UnmapMmio(at, count) => {
            let before = model.len();
            model.retain(|gfn, (kind, _)| {
                !(*at..at + count).contains(gfn) || *kind != MapKind::Mmio
            });
            (Ok(()), model.len() < before)
        }
        Op::Write(at) => match model.get_mut(at) {
            Some((MapKind::Ram, byte)) => {
                *byte = mark;
                (Ok(()), false)
            }
            Some((MapKind::Mmio | MapKind::Grant { writable: false }, _)) | None => {
                (Err(Errno::Fault), false)
            }
            Some(_) => (Ok(()), false),
        },
    }
}

fn agrees<F: Format>(list: Vec<Op>) {
    let frames = test_table(0x2800);
    let before = frames.stats();
    let (space, log) = space_of::<F>(frames, config(DOM));
    let shared = frames.alloc(OTHER).unwrap();
    let mut model = Model::new();
    let device = |at: u64| Mfn::new(0xf0000 + at);
    for (step, op) in list.into_iter().enumerate() {
        let mark = step as u8 | 1;
        let flushes_before = flushes(&log);
        let result = match &op {
            Op::Populate(at, order) => space.populate(g(*at), *order),
            Op::Release(at) => space.release(g(*at)),
            Op::Move(from, to) => space.move_ram(g(*from), g(*to)),
            Op::Map(at, kind) => space.map(g(*at), shared.try_clone().unwrap(), *kind),
            Op::Unmap(at, kind) => space.unmap(g(*at), shared.mfn(), *kind),
            Op::MapMmio(at, count) => space.map_mmio(g(*at), device(*at), *count),
            Op::UnmapMmio(at, count) => space.unmap_mmio(g(*at), *count),
            Op::Write(at) => space.write(g(*at).base(), &[mark]),
        };
        let (expected, took_away) = expect(&mut model, &op, mark);
        assert_eq!(result, expected, "{op:?}");
        let flushed = flushes(&log) - flushes_before;
        assert_eq!(flushed, took_away as u64, "{op:?}");
        for at in 0..GFNS + 0x400 {
            let entry = space.lookup(g(at));
            let (kind, byte) = model.get(&at).copied().unzip();
            assert_eq!(
                entry.map(|entry| entry.kind),
                kind,
                "gfn {at:#x} after {op:?}"
            );
            match kind {
                Some(MapKind::Mmio) => assert_eq!(entry.map(|e| e.mfn), Some(device(at))),
                Some(MapKind::Ram) => {
                    let mut seen = [0];
                    GuestMemory::read(&space, g(at).base(), &mut seen).unwrap();
                    assert_eq!(Some(seen[0]), byte, "gfn {at:#x} after {op:?}");
                }
                Some(_) => assert_eq!(entry.map(|e| e.mfn), Some(shared.mfn())),
                None => {}
            }
        }
        let ram = model
            .values()
            .filter(|(kind, _)| *kind == MapKind::Ram)
            .count();
        assert_eq!(space.ram_frames(), ram as u64);
    }
    let mut calls = 0;
    while !space.teardown(50) {
        calls += 1;
        assert!(calls < 200);
    }
    assert_eq!((space.ram_frames(), space.table_pages()), (0, 1));
    drop(space);
    drop(shared);
    assert_eq!(frames.stats(), before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn npt_agrees_with_the_model(list in prop::collection::vec(ops(), 1..40)) { agrees::<Npt>(list) }
    #[test]
    fn ept_agrees_with_the_model(list in prop::collection::vec(ops(), 1..40)) { agrees::<Ept>(list) }
}
