//! Grants between two guests: mapped, copied, taken back, and abused.

mod copy;
mod hostile;

use core::sync::atomic::Ordering;

use bytemuck::Zeroable;
use guest_pv_abi as abi;
use oxen_types::{DomainId, Gfn};

use super::Status;
use crate::seams::MapKind;
use crate::testing::{Guest, PAGE, World};

const PERMIT: u16 = 1;
const READONLY: u16 = 1 << 2;
const READING: u16 = 1 << 3;
const WRITING: u16 = 1 << 4;

/// Where guests keep their grant table, and a gfn without RAM for mappings.
const TABLE: u64 = 100;
const HOLE: u64 = 200;

/// The grant table as its owner sees it, and operations on those of others.
trait Grants {
    fn show_table(&self);
    fn set_entry(&self, grant: u32, flags: u16, to: u16, gfn: u32);
    fn flags(&self, grant: u32) -> u16;
    fn map(&self, from: u16, grant: u32, gfn: u64, flags: u32) -> Result<u32, i16>;
    fn unmap(&self, handle: u32, gfn: u64) -> i16;
    fn copy(&self, op: abi::GnttabCopy) -> i16;
}

impl Grants for Guest {
    fn show_table(&self) {
        let mut ask = abi::AddToPhysmap {
            domid: DomainId::SELF.0,
            space: abi::XENMAPSPACE_GRANT_TABLE,
            gpfn: TABLE,
            ..Zeroable::zeroed()
        };
        let number = abi::HYPERVISOR_MEMORY_OP;
        assert_eq!(self.op(number, abi::XENMEM_ADD_TO_PHYSMAP, &mut ask), 0);
    }

    fn set_entry(&self, grant: u32, flags: u16, to: u16, gfn: u32) {
        let at = TABLE * PAGE + u64::from(grant) * 8;
        self.write(at + 4, &gfn);
        self.write(at + 2, &to);
        self.write(at, &flags);
    }

    fn flags(&self, grant: u32) -> u16 {
        self.read(TABLE * PAGE + u64::from(grant) * 8)
    }

    fn map(&self, from: u16, grant: u32, gfn: u64, flags: u32) -> Result<u32, i16> {
        let mut op = abi::GnttabMapGrantRef {
            host_addr: gfn * PAGE,
            flags: abi::GNTMAP_HOST_MAP | flags,
            grant_ref: grant,
            dom: from,
            ..Zeroable::zeroed()
        };
        assert_eq!(self.grant_op(abi::GNTTABOP_MAP_GRANT_REF, &mut op), 0);
        if op.status == 0 {
            Ok(op.handle)
        } else {
            Err(op.status)
        }
    }

    fn unmap(&self, handle: u32, gfn: u64) -> i16 {
        let mut op = abi::GnttabUnmapGrantRef {
            host_addr: gfn * PAGE,
            handle,
            ..Zeroable::zeroed()
        };
        assert_eq!(self.grant_op(abi::GNTTABOP_UNMAP_GRANT_REF, &mut op), 0);
        op.status
    }

    fn copy(&self, mut op: abi::GnttabCopy) -> i16 {
        assert_eq!(self.grant_op(abi::GNTTABOP_COPY, &mut op), 0);
        op.status
    }
}

fn pair() -> (World, Guest, Guest) {
    let (world, _dom0) = World::new();
    let (a, b) = (world.guest(1, 1), world.guest(2, 1));
    a.show_table();
    b.show_table();
    (world, a, b)
}

fn copy_ptr(u: u64, domid: u16, offset: u16) -> abi::GnttabCopyPtr {
    abi::GnttabCopyPtr {
        u,
        domid,
        offset,
        ..Zeroable::zeroed()
    }
}

#[test]
fn a_mapping_shows_the_others_page_until_it_is_undone() {
    let (world, a, b) = pair();
    a.write(3 * PAGE, b"from a");
    a.set_entry(9, PERMIT, 2, 3);
    let handle = b.map(1, 9, HOLE, 0).expect("mapped");
    assert_eq!(&b.read::<[u8; 6]>(HOLE * PAGE), b"from a");
    b.write(HOLE * PAGE, b"from b");
    assert_eq!(&a.read::<[u8; 6]>(3 * PAGE), b"from b");
    assert_eq!(
        a.flags(9),
        PERMIT | READING | WRITING,
        "the guest sees that it is in use"
    );
    let mfn = a.domain.memory.lookup(Gfn::new(3)).expect("RAM").mfn;
    assert_eq!(world.frames.refs(mfn), 2);
    assert_eq!(b.unmap(handle, HOLE), 0);
    assert_eq!(a.flags(9), PERMIT);
    assert_eq!(world.frames.refs(mfn), 1);
    assert!(b.domain.memory.lookup(Gfn::new(HOLE)).is_none());
    assert_eq!(b.unmap(handle, HOLE), Status::BadHandle as i16);
}

#[test]
fn several_mappings_of_one_grant_are_counted() {
    let (_world, a, b) = pair();
    a.set_entry(9, PERMIT, 2, 3);
    let read = b.map(1, 9, HOLE, abi::GNTMAP_READONLY).expect("mapped");
    assert_eq!(a.flags(9), PERMIT | READING);
    let write = b.map(1, 9, HOLE + 1, 0).expect("mapped");
    assert_eq!(b.unmap(write, HOLE + 1), 0);
    assert_eq!(a.flags(9), PERMIT | READING, "one reader is left");
    assert_eq!(b.unmap(read, HOLE), 0);
    assert_eq!(a.flags(9), PERMIT);
}

#[test]
fn read_only_grants_are_read_only() {
    let (_world, a, b) = pair();
    a.set_entry(9, PERMIT | READONLY, 2, 3);
    assert_eq!(b.map(1, 9, HOLE, 0), Err(Status::GeneralError as i16));
    let handle = b.map(1, 9, HOLE, abi::GNTMAP_READONLY).expect("mapped");
    let entry = b.domain.memory.lookup(Gfn::new(HOLE)).expect("mapped");
    assert_eq!(entry.kind, MapKind::Grant { writable: false });
    let write = b
        .domain
        .memory
        .write(oxen_types::Gaddr::new(HOLE * PAGE), b"x");
    assert!(write.is_err());
    assert_eq!(b.unmap(handle, HOLE), 0);
}

#[test]
fn copies_between_grants_and_own_pages() {
    let (_world, a, b) = pair();
    a.write(3 * PAGE + 100, b"payload");
    a.set_entry(9, PERMIT | READONLY, 2, 3);
    let op = abi::GnttabCopy {
        source: copy_ptr(9, 1, 100),
        dest: copy_ptr(5, DomainId::SELF.0, 4089),
        len: 7,
        flags: abi::GNTCOPY_SOURCE_GREF,
        ..Zeroable::zeroed()
    };
    assert_eq!(b.copy(op), 0);
    assert_eq!(&b.read::<[u8; 7]>(5 * PAGE + 4089), b"payload");
    assert_eq!(a.flags(9), PERMIT | READONLY, "nothing stays in use");
    let far = abi::GnttabCopy {
        dest: copy_ptr(5, DomainId::SELF.0, 4090),
        ..op
    };
    assert_eq!(b.copy(far), Status::BadCopyArg as i16);
    // Into a page that is granted for reading, or to somebody else's without a grant.
    let back = abi::GnttabCopy {
        source: copy_ptr(5, DomainId::SELF.0, 0),
        dest: copy_ptr(9, 1, 0),
        flags: abi::GNTCOPY_DEST_GREF,
        ..op
    };
    assert_eq!(b.copy(back), Status::GeneralError as i16);
    let stolen = abi::GnttabCopy { flags: 0, ..back };
    assert_eq!(b.copy(stolen), Status::PermissionDenied as i16);
    a.set_entry(9, PERMIT, 2, 3);
    assert_eq!(b.copy(back), 0);
    assert_eq!(a.flags(9), PERMIT);
}

#[test]
fn a_granter_may_go_before_its_mapper() {
    let (world, _dom0) = World::new();
    let free = world.free_frames();
    let (a, b) = (world.guest(1, 1), world.guest(2, 1));
    a.show_table();
    a.write(3 * PAGE, b"outlives");
    a.set_entry(9, PERMIT, 2, 3);
    let handle = b.map(1, 9, HOLE, 0).expect("mapped");
    world.destroy(&a.domain);
    drop(a);
    // The page is there as long as it is mapped, and so is its owner's name.
    assert_eq!(&b.read::<[u8; 8]>(HOLE * PAGE), b"outlives");
    let mfn = b.domain.memory.lookup(Gfn::new(HOLE)).expect("mapped").mfn;
    assert_eq!(world.frames.refs(mfn), 1);
    assert_eq!(b.map(1, 9, HOLE + 1, 0), Err(Status::BadDomain as i16));
    assert_eq!(b.unmap(handle, HOLE), 0);
    world.destroy(&b.domain);
    drop(b);
    assert_eq!(world.free_frames(), free);
}

#[test]
fn a_mapper_that_ends_gives_all_its_mappings_back() {
    let (world, _dom0) = World::new();
    let (a, b) = (world.guest(1, 1), world.guest(2, 1));
    a.show_table();
    let free = world.free_frames();
    for grant in 9..20 {
        a.set_entry(grant, PERMIT, 2, grant);
        b.map(1, grant, HOLE + u64::from(grant), 0).expect("mapped");
    }
    assert_eq!(b.domain.grants.usage().0, 11);
    assert_eq!(a.domain.grants.usage().1, 11);
    world.destroy(&b.domain);
    assert_eq!(b.domain.grants.usage().0, 0);
    assert_eq!(a.domain.grants.usage().1, 0);
    assert!((9..20).all(|grant| a.flags(grant) == PERMIT));
    drop(b);
    // 32 pages of RAM, shared_info and one frame of its grant table.
    assert_eq!(world.free_frames(), free + 34);
}

#[test]
fn entries_swap_only_while_nobody_uses_them() {
    let (_world, a, b) = pair();
    a.set_entry(9, PERMIT, 2, 3);
    a.set_entry(10, PERMIT | READONLY, 7, 4);
    let mut op = abi::GnttabSwapGrantRef {
        ref_a: 9,
        ref_b: 10,
        status: 1,
        _pad: 0,
    };
    assert_eq!(
        (a.grant_op(abi::GNTTABOP_SWAP_GRANT_REF, &mut op), op.status),
        (0, 0)
    );
    assert_eq!((a.flags(9), a.flags(10)), (PERMIT | READONLY, PERMIT));
    let handle = b.map(1, 10, HOLE, 0).expect("mapped");
    a.grant_op(abi::GNTTABOP_SWAP_GRANT_REF, &mut op);
    assert_eq!(op.status, Status::Again as i16, "as long as it is in use");
    assert_eq!(b.unmap(handle, HOLE), 0);
}

#[test]
fn the_table_grows_to_its_limit() {
    let (_world, a, _b) = pair();
    let mut size = abi::GnttabQuerySize {
        dom: DomainId::SELF.0,
        ..Zeroable::zeroed()
    };
    assert_eq!(a.grant_op(abi::GNTTABOP_QUERY_SIZE, &mut size), 0);
    assert_eq!((size.status, size.nr_frames, size.max_nr_frames), (0, 1, 4));
    let mut ask = abi::AddToPhysmap {
        domid: DomainId::SELF.0,
        space: abi::XENMAPSPACE_GRANT_TABLE,
        idx: 3,
        gpfn: TABLE + 3,
        ..Zeroable::zeroed()
    };
    let number = abi::HYPERVISOR_MEMORY_OP;
    assert_eq!(a.op(number, abi::XENMEM_ADD_TO_PHYSMAP, &mut ask), 0);
    (ask.idx, ask.gpfn) = (1, TABLE + 1);
    assert_eq!(a.op(number, abi::XENMEM_ADD_TO_PHYSMAP, &mut ask), 0);
    ask.idx = 4;
    assert!(a.op(number, abi::XENMEM_ADD_TO_PHYSMAP, &mut ask) < 0);
    assert_eq!(a.grant_op(abi::GNTTABOP_QUERY_SIZE, &mut size), 0);
    assert_eq!(size.nr_frames, 4);
    let mut version = abi::GnttabSetVersion { version: 1 };
    assert_eq!(a.grant_op(abi::GNTTABOP_SET_VERSION, &mut version), 0);
    version.version = 2;
    assert!(a.grant_op(abi::GNTTABOP_SET_VERSION, &mut version) < 0);
    assert_eq!(version.version, 1);
    // The same words are seen by the owner and used by us.
    a.set_entry(600, PERMIT, 2, 3);
    let word = a.domain.grants.frame(&a.domain, 1).expect("frame");
    let entry = word.word((600 - 512) * 8).load(Ordering::SeqCst);
    assert_eq!(entry, 2 << 16 | u32::from(PERMIT));
}

#[test]
fn a_device_map_alone_holds_the_page_without_a_place() {
    let (world, a, b) = pair();
    a.set_entry(9, PERMIT, 2, 3);
    let mfn = a.domain.memory.lookup(Gfn::new(3)).expect("RAM").mfn;
    let mut op = abi::GnttabMapGrantRef {
        flags: abi::GNTMAP_DEVICE_MAP,
        grant_ref: 9,
        dom: 1,
        ..Zeroable::zeroed()
    };
    assert_eq!(b.grant_op(abi::GNTTABOP_MAP_GRANT_REF, &mut op), 0);
    assert_eq!((op.status, op.dev_bus_addr), (0, mfn.base().raw()));
    assert_eq!(
        (world.frames.refs(mfn), a.flags(9)),
        (2, PERMIT | READING | WRITING)
    );
    assert_eq!(b.unmap(op.handle, HOLE), Status::BadHandle as i16);
    assert_eq!(b.unmap(op.handle, 0), 0);
    assert_eq!((world.frames.refs(mfn), a.flags(9)), (1, PERMIT));
    // Neither kind of map; and one that its holder's end gives back.
    let mut none = abi::GnttabMapGrantRef { flags: 0, ..op };
    assert_eq!(b.grant_op(abi::GNTTABOP_MAP_GRANT_REF, &mut none), 0);
    assert_eq!(none.status, Status::BadRef as i16);
    assert_eq!(b.grant_op(abi::GNTTABOP_MAP_GRANT_REF, &mut op), 0);
    assert_eq!(op.status, 0);
    world.destroy(&b.domain);
    assert_eq!((world.frames.refs(mfn), a.flags(9)), (1, PERMIT));
}
