//! Large pages that may not be executed, on CPUs where that can stop the machine (XSA-304).

use super::*;

fn guarded(frames: &'static FrameTable) -> (GuestSpace<Ept>, Arc<Log>) {
    let config = SpaceConfig {
        rules: Rules {
            large_exec: false,
            guest_pat: false,
        },
        ..config(DOM)
    };
    space_of::<Ept>(frames, config)
}

#[test]
fn a_fetch_splits_a_large_page_and_all_of_it_may_be_executed_then() {
    let frames = test_table(0x2000);
    let (space, log) = guarded(frames);
    space.populate(g(0x200), 9).unwrap();
    let leaf = |gfn| space.leaf(g(gfn)).unwrap();
    assert_eq!((leaf(0x234).level, leaf(0x234).attrs.exec), (2, false));
    assert!(space.allow_exec(g(0x234)));
    for gfn in [0x200, 0x234, 0x3ff] {
        assert_eq!((leaf(gfn).level, leaf(gfn).attrs.exec), (1, true));
        assert!(leaf(gfn).attrs.write && leaf(gfn).attrs.fixed);
    }
    assert!(!space.allow_exec(g(0x234)), "it could be before");
    assert_eq!(flushes(&log), 0);
    // A shadow of the guest's tables may make no large page of it either.
    let seen = space.mapping(g(0x234)).unwrap();
    assert!(seen.exec && !seen.large);
}

#[test]
fn whatever_is_no_ram_stays_what_it_is() {
    let frames = test_table(0x2000);
    let (space, _) = guarded(frames);
    space.populate(g(0), 0).unwrap();
    assert!(space.leaf(g(0)).unwrap().attrs.exec, "a small page");
    space
        .map(g(1), frames.alloc(OTHER).unwrap(), MapKind::Foreign)
        .unwrap();
    for gfn in [0, 1, 2, 1 << 30] {
        assert!(!space.allow_exec(g(gfn)), "{gfn}");
    }
    assert!(!space.leaf(g(1)).unwrap().attrs.exec);
}

/// Log-dirty mode splits large pages for another reason, and protects them as a whole.
#[test]
fn pages_that_are_logged_can_be_executed() {
    let frames = test_table(0x2000);
    let (space, _) = guarded(frames);
    space.populate(g(0x200), 9).unwrap();
    while space.log_writes(true, g(0)).is_some() {}
    assert!(space.allow_exec(g(0x201)));
    let leaf = space.leaf(g(0x201)).unwrap();
    assert!(leaf.attrs.exec && !leaf.attrs.write);
    space.populate(g(0x400), 9).unwrap();
    while space.log_writes(true, g(0)).is_some() {}
    assert!(space.log_write(g(0x401)));
    assert!(space.leaf(g(0x402)).unwrap().attrs.exec);
    // The page that was written first is asked once more.
    assert!(space.leaf(g(0x401)).unwrap().attrs.exec || space.allow_exec(g(0x401)));
}
