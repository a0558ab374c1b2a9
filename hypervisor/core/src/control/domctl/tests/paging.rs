//! Domains without nested paging, and log-dirty mode.

use super::*;

#[test]
fn a_domain_without_nested_paging() {
    let (_world, dom0) = World::new();
    let flags = abi::XEN_DOMCTL_CDF_HVM;
    let id = create(&dom0, 0, &abi::DomctlCreateDomain { flags, ..pvh(1) }).expect("a domain");
    let seen = info(&dom0, id).expect("info");
    assert_eq!(seen.flags & abi::XEN_DOMINF_HAP, 0);
}

fn shadow_op(dom0: &Guest, id: u16, op: u32, mode: u32, pages: u64) -> (i64, abi::DomctlShadowOp) {
    let mut ask = abi::DomctlShadowOp {
        op,
        mode,
        mb: 0,
        _pad: 0,
        dirty_bitmap: if pages > 0 { LIST } else { 0 },
        pages,
        stats: abi::DomctlShadowOpStats {
            fault_count: 0,
            dirty_count: 0,
        },
    };
    let result = dom0.domctl(abi::XEN_DOMCTL_SHADOW_OP, id, &mut ask);
    (result, ask)
}

#[test]
fn the_log_of_writes_is_switched_read_and_cleaned() {
    let (world, dom0) = World::new();
    let guest = world.guest(5, 1);
    let shadow = |op, mode, pages| shadow_op(&dom0, 5, op, mode, pages);
    let (peek, clean) = (
        abi::XEN_DOMCTL_SHADOW_OP_PEEK,
        abi::XEN_DOMCTL_SHADOW_OP_CLEAN,
    );
    let bitmap = || dom0.read::<u64>(LIST);
    // Off: everything is clean.
    guest.write(7 * PAGE, &1u64);
    assert_eq!((shadow(peek, 0, 64).0, bitmap()), (0, 0));
    assert_eq!(shadow(abi::XEN_DOMCTL_SHADOW_OP_OFF, 0, 0).0, 0);
    let enable = abi::XEN_DOMCTL_SHADOW_OP_ENABLE;
    assert_eq!(shadow(enable, 0, 0).0, errno(Errno::Inval));
    let log_dirty = abi::XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY;
    assert_eq!(shadow(enable, log_dirty, 0).0, 0);
    let enable = abi::XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY;
    assert_eq!(shadow(enable, 0, 0).0, errno(Errno::Inval), "it is on");

    guest.write(3 * PAGE + 4090, &[1u64; 2]);
    assert!(guest.domain.memory.log_write(Gfn::new(9)));
    for op in [peek, clean] {
        let (result, answer) = shadow(op, 0, 64);
        assert_eq!((result, bitmap()), (0, 1 << 3 | 1 << 4 | 1 << 9));
        let stats = (answer.stats.fault_count, answer.stats.dirty_count);
        assert_eq!((stats, answer.pages), ((1, 3), 64));
    }
    let (result, answer) = shadow(clean, abi::XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL, 64);
    assert_eq!((result, bitmap(), answer.stats.fault_count), (0, 0, 0));
    // Bits past the last page stay as they are in the log, and are not told.
    guest.write(9 * PAGE, &1u64);
    guest.write(11 * PAGE, &1u64);
    dom0.write(LIST, &u64::MAX);
    assert_eq!(shadow(clean, 0, 10).0, 0);
    assert_eq!(bitmap(), u64::MAX << 16 | 1 << 9);
    // More pages than one call looks at; and counters alone.
    dom0.write(LIST, &0u64);
    assert_eq!(shadow(peek, 0, 32_769).0, 0);
    assert_eq!(bitmap(), 1 << 11);
    let (result, answer) = shadow(peek, 0, 0);
    assert_eq!((result, answer.stats.dirty_count), (0, 0));
    // What cannot be.
    assert_eq!(shadow(peek, 2, 64).0, errno(Errno::Inval));
    assert_eq!(shadow(77, 0, 0).0, errno(Errno::Inval));
    assert_eq!(
        shadow(abi::XEN_DOMCTL_SHADOW_OP_ENABLE_TEST, 0, 0).0,
        errno(Errno::Inval)
    );
    assert_eq!(shadow_op(&dom0, 0, enable, 0, 0).0, errno(Errno::Inval));
    assert_eq!(shadow(abi::XEN_DOMCTL_SHADOW_OP_OFF, 0, 0).0, 0);
    assert!(!guest.domain.memory.logs_writes());
}

#[test]
fn event_words_clocks_and_grants_are_logged() {
    let (world, dom0) = World::new();
    let guest = world.guest(5, 1);
    let enable = abi::XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY;
    assert_eq!(shadow_op(&dom0, 5, enable, 0, 0).0, 0);
    let written = || {
        let frames = world.frames;
        frames.written(guest.domain.shared_info().mfn(), true)
    };
    written();
    assert!(!written());
    crate::evtchn::raise_virq(&guest.domain, 0, abi::VIRQ_TIMER);
    guest.domain.update_wall_clock();
    assert!(written());
}
