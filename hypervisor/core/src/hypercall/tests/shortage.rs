//! Memory that is short: refused where it is asked for, and all of it given back.

use bytemuck::Zeroable;
use core::sync::atomic::Ordering;
use guest_pv_abi as abi;
use oxen_types::{DomainId, Errno, PAGE_SIZE};

use crate::evtchn;
use crate::testing::{Guest, PAGE, World, config, errno, heap, pvh};

const HOLE: u64 = 200;

/// Gives a failure to each of the first attempts to allocate, one after another, until `act`
/// succeeds.
fn until_it_succeeds(mut act: impl FnMut() -> i64, errors: &[i64]) -> u32 {
    let mut failed = 0;
    loop {
        heap::fail_after(failed);
        let result = act();
        let refused = heap::take_refused();
        heap::fail(0, 0);
        if refused == 0 {
            assert_eq!(result, 0);
            return failed;
        }
        assert!(errors.contains(&result), "{result} after {failed} pieces");
        failed += 1;
    }
}

fn bind_ipi(guest: &Guest) -> i64 {
    let mut ask = abi::EvtchnBindIpi::zeroed();
    guest.op(
        abi::HYPERVISOR_EVENT_CHANNEL_OP,
        abi::EVTCHNOP_BIND_IPI,
        &mut ask,
    )
}

#[test]
fn whatever_piece_is_missing_the_call_fails_and_nothing_stays() {
    let (world, dom0) = World::new();
    let free = world.free_frames();
    let no_memory = errno(Errno::NoMem);
    let made = abi::Domctl::with(abi::XEN_DOMCTL_CREATEDOMAIN, 9, &pvh(3));
    let create = || dom0.envelope(abi::HYPERVISOR_DOMCTL, &mut made.clone());
    assert!(until_it_succeeds(create, &[no_memory]) > 8);
    let domain = world.machine.domain(DomainId(9)).expect("made at last");
    world.destroy(&domain);
    drop(domain);
    assert_eq!(world.free_frames(), free);
    let guest = world.guest(1, 2);
    assert!(until_it_succeeds(|| bind_ipi(&guest), &[no_memory]) > 0);
    let mut control = abi::EvtchnInitControl {
        control_gfn: 5,
        ..Zeroable::zeroed()
    };
    let number = abi::HYPERVISOR_EVENT_CHANNEL_OP;
    let init = || guest.op(number, abi::EVTCHNOP_INIT_CONTROL, &mut control);
    assert!(until_it_succeeds(init, &[no_memory]) > 1);
    assert!(
        guest.domain.events.usage().1,
        "switched with the success only"
    );
    let mut frame = abi::AddToPhysmap {
        domid: DomainId::SELF.0,
        space: abi::XENMAPSPACE_GRANT_TABLE,
        idx: 1,
        gpfn: 100,
        ..Zeroable::zeroed()
    };
    let grow = || {
        guest.op(
            abi::HYPERVISOR_MEMORY_OP,
            abi::XENMEM_ADD_TO_PHYSMAP,
            &mut frame,
        )
    };
    assert!(until_it_succeeds(grow, &[no_memory]) > 0);
    let used = guest.domain.heap.used();
    assert!(used > 0 && used <= guest.domain.heap.most());
    world.destroy(&guest.domain);
    assert_eq!(guest.domain.heap.used(), 0);
}

#[test]
fn a_mapping_without_memory_says_that_there_is_no_space() {
    let (world, _dom0) = World::new();
    let (a, b) = (world.guest(1, 1), world.guest(2, 1));
    let table = a.domain.grants.frame(&a.domain, 0).expect("a frame");
    table.write(9 * 8, bytemuck::bytes_of(&[1u32 | 2 << 16, 3]));
    let mut op = abi::GnttabMapGrantRef {
        host_addr: HOLE * PAGE,
        flags: abi::GNTMAP_HOST_MAP,
        grant_ref: 9,
        dom: 1,
        ..Zeroable::zeroed()
    };
    let map = || {
        assert_eq!(b.grant_op(abi::GNTTABOP_MAP_GRANT_REF, &mut op), 0);
        op.status.into()
    };
    assert!(until_it_succeeds(map, &[i64::from(abi::GNTST_NO_SPACE)]) > 0);
    assert_eq!(
        (a.domain.grants.usage().1, b.domain.grants.usage().0),
        (1, 1)
    );
}

#[test]
fn guests_get_nothing_of_the_last_memory_and_dom0_does() {
    let (world, dom0) = World::new();
    let guest = world.guest(1, 1);
    world.frames.tight.store(true, Ordering::Relaxed);
    assert_eq!(bind_ipi(&guest), errno(Errno::NoMem));
    assert_eq!(bind_ipi(&dom0), 0);
    world.frames.tight.store(false, Ordering::Relaxed);
    assert_eq!(bind_ipi(&guest), 0);
}

/// No table of core's is in one piece that is larger than a page, however full: `heap::in_core`
/// fails the test for one that is.
#[test]
fn the_largest_tables_take_single_pages_and_stay_within_the_quota() {
    let (world, _dom0) = World::new();
    let full = crate::domain::DomainConfig {
        max_grant_frames: 600,
        max_maptrack_frames: 8192,
        ..config(false, 128)
    };
    let domain = world.domain(1, full);
    domain.memory.set_max_frames(64);
    let guest = Guest::start(domain);
    let heap = &guest.domain.heap;
    let mut control = abi::EvtchnInitControl {
        control_gfn: 5,
        ..Zeroable::zeroed()
    };
    let number = abi::HYPERVISOR_EVENT_CHANNEL_OP;
    for vcpu in 0..128 {
        control.vcpu = vcpu;
        assert_eq!(
            guest.op(number, abi::EVTCHNOP_INIT_CONTROL, &mut control),
            0
        );
    }
    let mut array = abi::EvtchnExpandArray { array_gfn: 6 };
    for _ in 0..128 {
        assert_eq!(guest.op(number, abi::EVTCHNOP_EXPAND_ARRAY, &mut array), 0);
    }
    heap::in_core(|| {
        let port = || evtchn::alloc_unbound(&guest.domain, DomainId(0));
        assert_eq!((0..).take_while(|_| port().is_ok()).count(), 131_071);
        assert_eq!(port(), Err(Errno::NoSpc));
        let last = guest.domain.grants.frame(&guest.domain, 599);
        assert!(last.is_ok());
    });
    let table = guest
        .domain
        .grants
        .frame(&guest.domain, 0)
        .expect("a frame");
    table.write(9 * 8, bytemuck::bytes_of(&[1u32 | 1 << 16, 3]));
    let mut op = abi::GnttabMapGrantRef {
        flags: abi::GNTMAP_DEVICE_MAP,
        grant_ref: 9,
        dom: 1,
        ..Zeroable::zeroed()
    };
    for _ in 0..20_000 {
        assert_eq!(guest.grant_op(abi::GNTTABOP_MAP_GRANT_REF, &mut op), 0);
        assert_eq!(op.status, 0);
    }
    assert!(heap.used() > 1_700 * PAGE_SIZE && heap.used() <= heap.most());
    let mut unmap = abi::GnttabUnmapGrantRef {
        handle: op.handle,
        ..Zeroable::zeroed()
    };
    assert_eq!(guest.grant_op(abi::GNTTABOP_UNMAP_GRANT_REF, &mut unmap), 0);
    assert_eq!((unmap.status, guest.domain.grants.usage().0), (0, 19_999));
    world.destroy(&guest.domain);
    assert_eq!(heap.used(), 0);
}
