//! memory_op: what stands where, and long lists in parts.

use std::vec::Vec;

use bytemuck::Zeroable;
use guest_pv_abi as abi;
use oxen_types::{CpuId, DomainId, Errno, Gfn};

use crate::seams::MapKind;
use crate::testing::{Guest, PAGE, World, errno};

const NUMBER: u32 = abi::HYPERVISOR_MEMORY_OP;
const LIST: u64 = 20 * PAGE;
const HOLE: u64 = 300;

fn reservation(domid: u16, count: u64, order: u32) -> abi::MemoryReservation {
    abi::MemoryReservation {
        extent_start: LIST,
        nr_extents: count,
        extent_order: order,
        domid,
        ..Zeroable::zeroed()
    }
}

fn kind(guest: &Guest, gfn: u64) -> Option<MapKind> {
    guest.domain.memory.lookup(Gfn::new(gfn)).map(|e| e.kind)
}

fn add(guest: &Guest, space: u32, idx: u64, gpfn: u64) -> i64 {
    let mut ask = abi::AddToPhysmap {
        domid: DomainId::SELF.0,
        space,
        idx,
        gpfn,
        ..Zeroable::zeroed()
    };
    guest.op(NUMBER, abi::XENMEM_ADD_TO_PHYSMAP, &mut ask)
}

fn remove(guest: &Guest, gpfn: u64) -> i64 {
    let mut ask = abi::RemoveFromPhysmap {
        domid: DomainId::SELF.0,
        gpfn,
        ..Zeroable::zeroed()
    };
    guest.op(NUMBER, abi::XENMEM_REMOVE_FROM_PHYSMAP, &mut ask)
}

#[test]
fn shared_info_takes_the_place_of_a_page() {
    let (_world, guest) = with_guest();
    let ram = guest.domain.memory.ram_frames();
    assert_eq!(add(&guest, abi::XENMAPSPACE_SHARED_INFO, 0, 5), 0);
    assert_eq!(kind(&guest, 5), Some(MapKind::Xen));
    assert_eq!(
        guest.domain.memory.ram_frames(),
        ram - 1,
        "the page that stood there"
    );
    assert_eq!(
        guest.read::<u32>(5 * PAGE + 32) % 2,
        0,
        "its clock is there at once"
    );
    assert_ne!(guest.read::<u32>(5 * PAGE + 32), 0);
    // It moves; its old place is empty then.
    assert_eq!(add(&guest, abi::XENMAPSPACE_SHARED_INFO, 0, HOLE), 0);
    assert_eq!(
        (kind(&guest, 5), kind(&guest, HOLE)),
        (None, Some(MapKind::Xen))
    );
    assert_eq!(
        add(&guest, abi::XENMAPSPACE_SHARED_INFO, 1, 5),
        errno(Errno::Inval)
    );
    // What fails changes nothing, and to where it is it can go.
    assert!(add(&guest, abi::XENMAPSPACE_SHARED_INFO, 0, u64::MAX) < 0);
    assert_eq!(kind(&guest, HOLE), Some(MapKind::Xen));
    assert_eq!(add(&guest, abi::XENMAPSPACE_SHARED_INFO, 0, HOLE), 0);
    assert_eq!(kind(&guest, HOLE), Some(MapKind::Xen));
    assert_eq!(remove(&guest, HOLE), 0);
    assert_eq!(remove(&guest, HOLE), errno(Errno::NoEnt));
    assert_eq!(
        add(&guest, abi::XENMAPSPACE_GMFN_FOREIGN, 0, 5),
        errno(Errno::NoSys)
    );
    assert_eq!(add(&guest, 99, 0, 5), errno(Errno::NoSys));
    assert!(add(&guest, abi::XENMAPSPACE_SHARED_INFO, 0, u64::MAX) < 0);
}

fn with_guest() -> (World, Guest) {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 1);
    (world, guest)
}

#[test]
fn a_balloon_goes_down_and_up() {
    let (world, guest) = with_guest();
    let free = world.free_frames();
    guest.write(LIST, &[3u64, 4, 999, 5]);
    let mut ask = reservation(DomainId::SELF.0, 4, 0);
    let down = guest.op(NUMBER, abi::XENMEM_DECREASE_RESERVATION, &mut ask);
    assert_eq!(down, 2, "the third is not there");
    assert_eq!(world.free_frames(), free + 2);
    guest.write(LIST, &[3u64, 4, 5]);
    let up = guest.op(NUMBER, abi::XENMEM_POPULATE_PHYSMAP, &mut ask);
    assert_eq!(up, 2, "the third is there");
    assert_eq!(
        guest.read::<[u8; 4096]>(3 * PAGE),
        [0; 4096],
        "fresh pages are empty"
    );
    assert_eq!(world.free_frames(), free);
    let mut ask = reservation(DomainId::SELF.0, 1, 10);
    assert_eq!(
        guest.op(NUMBER, abi::XENMEM_POPULATE_PHYSMAP, &mut ask),
        0,
        "too large for a guest"
    );
    let mut ask = reservation(0, 1, 0);
    assert_eq!(
        guest.op(NUMBER, abi::XENMEM_POPULATE_PHYSMAP, &mut ask),
        errno(Errno::Perm)
    );
}

#[test]
fn a_long_populate_goes_on_where_it_was() {
    let (world, dom0) = World::new();
    let target = world.guest(1, 1);
    target.domain.memory.set_max_frames(32 + 900);
    let gfns: Vec<u64> = (100..1100).collect();
    dom0.write_all(LIST, &gfns);
    let ask = reservation(1, 1000, 0);
    dom0.write(PAGE, &ask);
    let args = [abi::XENMEM_POPULATE_PHYSMAP.into(), PAGE];
    let (result, parts) = dom0.call_on(0, NUMBER, &args);
    assert_eq!(
        (result, parts),
        (900, 2),
        "as many as its limit lets it have"
    );
    assert_eq!(target.domain.memory.ram_frames(), 932);
    assert_eq!(kind(&target, 999), Some(MapKind::Ram));
    assert_eq!(kind(&target, 1000), None);
    // A list that cannot be read ends the work, and tells how far it came.
    dom0.write(
        PAGE,
        &abi::MemoryReservation {
            extent_start: 31 * PAGE + 4088,
            ..ask
        },
    );
    dom0.write(31 * PAGE + 4088, &2000u64);
    target.domain.memory.set_max_frames(5000);
    assert_eq!(dom0.call(NUMBER, &args), 1);
    for (cmd, expected) in [
        (abi::XENMEM_CURRENT_RESERVATION, 933),
        (abi::XENMEM_MAXIMUM_RESERVATION, 5000),
        (abi::XENMEM_MAXIMUM_GPFN, 2000),
    ] {
        assert_eq!(dom0.op(NUMBER, cmd, &mut [1u16, 0]), expected);
    }
}

#[test]
fn foreign_pages_are_for_the_privileged() {
    let (world, dom0) = World::new();
    let free = world.free_frames();
    let target = world.guest(1, 1);
    target.write(7 * PAGE, b"theirs");
    dom0.write(LIST, &[7u64, 5000, 8]);
    dom0.write(LIST + PAGE, &[HOLE, HOLE + 1, HOLE + 2]);
    let ask = abi::AddToPhysmapBatch {
        domid: DomainId::SELF.0,
        space: abi::XENMAPSPACE_GMFN_FOREIGN as u16,
        size: 3,
        foreign_domid: 1,
        idxs: LIST,
        gpfns: LIST + PAGE,
        errs: LIST + 2 * PAGE,
    };
    let cmd = abi::XENMEM_ADD_TO_PHYSMAP_BATCH;
    assert_eq!(dom0.op(NUMBER, cmd, &mut { ask }), 0);
    let errors: [i32; 3] = dom0.read(LIST + 2 * PAGE);
    assert_eq!(
        errors,
        [0, errno(Errno::Inval) as i32, 0],
        "each page has its own result"
    );
    assert_eq!(&dom0.read::<[u8; 6]>(HOLE * PAGE), b"theirs");
    // Of a domain on its way out nothing more is mapped.
    target.vcpu(0).set_cpu(Some(CpuId(1)));
    assert!(!target.domain.destroy_step(1), "it still runs");
    assert_eq!(dom0.op(NUMBER, cmd, &mut { ask }), 0);
    let errors: [i32; 3] = dom0.read(LIST + 2 * PAGE);
    assert_eq!(errors, [errno(Errno::Inval) as i32; 3]);
    target.vcpu(0).set_cpu(None);
    // The domain goes; its pages stay as long as they are mapped, and its shared_info as long as
    // they do.
    world.destroy(&target.domain);
    drop(target);
    assert_eq!(&dom0.read::<[u8; 6]>(HOLE * PAGE), b"theirs");
    assert_eq!(world.free_frames(), free - 3);
    assert_eq!(remove(&dom0, HOLE), 0);
    assert_eq!(remove(&dom0, HOLE + 2), 0);
    assert_eq!(world.free_frames(), free);
    let guest = world.guest(2, 1);
    let theirs = abi::AddToPhysmapBatch {
        foreign_domid: 0,
        ..ask
    };
    assert_eq!(guest.op(NUMBER, cmd, &mut { theirs }), errno(Errno::Perm));
    assert_eq!(dom0.op(NUMBER, cmd, &mut { ask }), errno(Errno::Srch));
    let own = abi::AddToPhysmapBatch {
        foreign_domid: 0,
        ..ask
    };
    assert_eq!(dom0.op(NUMBER, cmd, &mut { own }), errno(Errno::Inval));
}

#[test]
fn the_toolset_seeds_a_grant_table() {
    let (world, dom0) = World::new();
    let target = world.guest(1, 1);
    let mut ask = abi::AcquireResource {
        domid: 1,
        kind: abi::XENMEM_RESOURCE_GRANT_TABLE as u16,
        id: abi::XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED,
        ..Zeroable::zeroed()
    };
    let cmd = abi::XENMEM_ACQUIRE_RESOURCE;
    assert_eq!(dom0.op(NUMBER, cmd, &mut ask), 0);
    assert_eq!(ask.nr_frames, 4, "without a list the number is asked for");
    (ask.nr_frames, ask.frame_list) = (1, LIST);
    dom0.write(LIST, &HOLE);
    assert_eq!(dom0.op(NUMBER, cmd, &mut ask), 0);
    dom0.write(HOLE * PAGE, &[1u16, 0]);
    let frame = target
        .domain
        .grants
        .frame(&target.domain, 0)
        .expect("frame");
    let mut head = [0; 2];
    frame.read(0, &mut head);
    assert_eq!(head, [1, 0]);
    ask.frame = u64::MAX;
    assert_eq!(dom0.op(NUMBER, cmd, &mut ask), errno(Errno::Inval));
    assert_eq!(target.op(NUMBER, cmd, &mut ask), errno(Errno::Perm));
}

#[test]
fn any_number_of_frames_is_acquired_in_parts() {
    let (world, dom0) = World::new();
    let config = crate::domain::DomainConfig {
        max_grant_frames: 300,
        ..crate::testing::config(false, 1)
    };
    let target = world.domain(1, config);
    let mut ask = abi::AcquireResource {
        domid: 1,
        kind: abi::XENMEM_RESOURCE_GRANT_TABLE as u16,
        id: abi::XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED,
        nr_frames: 300,
        frame_list: LIST,
        ..Zeroable::zeroed()
    };
    let gfns: Vec<u64> = (HOLE..HOLE + 300).collect();
    dom0.write_all(LIST, &gfns);
    dom0.write(PAGE, &ask);
    let args = [abi::XENMEM_ACQUIRE_RESOURCE.into(), PAGE];
    let (result, parts) = dom0.call_on(0, NUMBER, &args);
    assert_eq!(result, 0);
    assert!(parts > 1, "{parts} parts");
    for n in 0..300 {
        let frame = target.grants.frame(&target, n).expect("a frame");
        let seen = dom0.domain.memory.lookup(Gfn::new(HOLE + n));
        let seen = seen.map(|entry| (entry.mfn, entry.kind));
        assert_eq!(seen, Some((frame.mfn(), MapKind::Foreign)), "frame {n}");
    }
    // One too many: those before it are there.
    ask.nr_frames = 301;
    dom0.write(LIST + 300 * 8, &(HOLE + 300));
    let cmd = abi::XENMEM_ACQUIRE_RESOURCE;
    assert_eq!(dom0.op(NUMBER, cmd, &mut ask), errno(Errno::Inval));
}

#[test]
fn special_pages_count_for_the_highest_gfn() {
    let (_world, guest) = with_guest();
    let highest = || guest.op(NUMBER, abi::XENMEM_MAXIMUM_GPFN, &mut [DomainId::SELF.0; 2]);
    assert_eq!(highest(), 31);
    assert_eq!(add(&guest, abi::XENMAPSPACE_SHARED_INFO, 0, HOLE), 0);
    assert_eq!(highest(), HOLE as i64);
    assert_eq!(add(&guest, abi::XENMAPSPACE_GRANT_TABLE, 0, HOLE + 7), 0);
    assert_eq!(highest(), HOLE as i64 + 7);
    assert_eq!(remove(&guest, HOLE + 7), 0);
    assert_eq!(
        highest(),
        HOLE as i64 + 7,
        "the highest that there ever was"
    );
}

#[test]
fn a_claim_is_kept_told_and_given_up() {
    let (world, dom0) = World::new();
    let guest = world.guest(1, 1);
    let cmd = abi::XENMEM_CLAIM_PAGES;
    let claim = |who: &Guest, pages, order| {
        let ask = abi::MemoryReservation {
            extent_start: 0,
            ..reservation(1, pages, order)
        };
        who.op(NUMBER, cmd, &mut { ask })
    };
    assert_eq!(claim(&guest, 100, 0), errno(Errno::Perm));
    assert_eq!(claim(&dom0, 100, 1), errno(Errno::Inval));
    assert_eq!(claim(&dom0, 257, 0), errno(Errno::Inval), "it may have 256");
    assert_eq!(claim(&dom0, 32, 0), errno(Errno::Inval), "it has as many");
    guest.domain.memory.set_max_frames(1 << 20);
    assert_eq!(claim(&dom0, 1 << 20, 0), errno(Errno::NoMem));
    assert_eq!(claim(&dom0, 132, 0), 0);
    assert_eq!(claim(&dom0, 140, 0), errno(Errno::Inval), "one at a time");
    let told = || crate::control::domctl::info::describe(&guest.domain).outstanding_pages;
    assert_eq!(told(), 100);
    assert_eq!(claim(&dom0, 0, 0), 0);
    assert_eq!(told(), 0);
    assert_eq!(claim(&dom0, 132, 0), 0);
    world.destroy(&guest.domain);
    assert_eq!(told(), 0, "no claim outlasts its domain");
}

#[test]
fn the_memory_map_is_the_toolsets_word() {
    let (world, dom0) = World::new();
    let guest = world.guest(1, 1);
    let mut map = abi::MemoryMap {
        nr_entries: 8,
        buffer: LIST,
        ..Zeroable::zeroed()
    };
    let get = abi::XENMEM_MEMORY_MAP;
    assert_eq!(guest.op(NUMBER, get, &mut map), errno(Errno::NoSys));
    let entry = abi::E820Entry {
        addr: 0,
        size: 77,
        kind: 1,
    };
    dom0.write(LIST, &[entry; 3]);
    let mut set = abi::ForeignMemoryMap {
        domid: 1,
        nr_entries: 3,
        buffer: LIST,
        ..Zeroable::zeroed()
    };
    assert_eq!(dom0.op(NUMBER, abi::XENMEM_SET_MEMORY_MAP, &mut set), 0);
    assert_eq!(
        guest.op(NUMBER, abi::XENMEM_SET_MEMORY_MAP, &mut set),
        errno(Errno::Perm)
    );
    assert_eq!(guest.op(NUMBER, get, &mut map), 0);
    assert_eq!(
        (map.nr_entries, guest.read::<[abi::E820Entry; 3]>(LIST)),
        (3, [entry; 3])
    );
    set.nr_entries = 129;
    assert_eq!(
        dom0.op(NUMBER, abi::XENMEM_SET_MEMORY_MAP, &mut set),
        errno(Errno::Inval)
    );
}
