//! Entries that lie, handles that do not exist, and lists that never end.

use bytemuck::Zeroable;
use guest_pv_abi as abi;
use oxen_types::{DomainId, Errno, Gfn};
use proptest::prelude::*;

use super::{Grants, HOLE, PERMIT, pair};
use crate::grant::Status;
use crate::testing::{PAGE, World, errno};

#[test]
fn what_was_not_granted_is_not_mapped() {
    let (_world, a, b) = pair();
    let refused = |grant: u32, what: &str| {
        assert!(b.map(1, grant, HOLE, 0).is_err(), "{what}");
        assert!(b.domain.memory.lookup(Gfn::new(HOLE)).is_none(), "{what}");
    };
    refused(9, "an empty entry");
    a.set_entry(9, PERMIT, 3, 3);
    refused(9, "for another domain");
    a.set_entry(9, PERMIT + 1, 2, 3);
    refused(9, "a transfer");
    a.set_entry(9, PERMIT, 2, 5000);
    refused(9, "a page that is not there");
    a.set_entry(9, PERMIT, 2, u32::MAX);
    refused(9, "a page that cannot be");
    a.set_entry(9, PERMIT, 2, super::TABLE as u32);
    refused(9, "the grant table itself");
    refused(512, "a frame of the table that is not there");
    refused(u32::MAX, "no such grant");
    assert_eq!(b.map(77, 9, HOLE, 0), Err(Status::BadDomain as i16));
    // All failed attempts gave the entry back.
    assert_eq!(a.domain.grants.usage(), (0, 0));
    a.set_entry(9, PERMIT, 2, 3);
    let handle = b.map(1, 9, HOLE, 0).expect("mapped");
    assert!(
        b.map(1, 9, HOLE, 0).is_err(),
        "the place is taken by a grant"
    );
    assert_eq!(b.unmap(handle, HOLE + 1), Status::BadHandle as i16);
    assert_eq!(b.unmap(handle + 1, HOLE), Status::BadHandle as i16);
    assert_eq!(b.unmap(u32::MAX, HOLE), Status::BadHandle as i16);
    // A page that is only borrowed cannot be granted on.
    b.set_entry(9, PERMIT, 1, HOLE as u32);
    assert!(a.map(2, 9, HOLE, 0).is_err());
    assert_eq!(b.unmap(handle, HOLE), 0);
    assert_eq!(b.map(1, 9, 1 << 50, 0), Err(Status::GeneralError as i16));
}

#[test]
fn an_entry_taken_back_while_it_is_used_stays_counted() {
    let (_world, a, b) = pair();
    a.set_entry(9, PERMIT, 2, 3);
    let handle = b.map(1, 9, HOLE, 0).expect("mapped");
    // The guest ignores that it is in use, and writes it anew.
    a.set_entry(9, 0, 0, 0);
    a.domain.memory.release(Gfn::new(3)).expect("its RAM");
    b.write(HOLE * PAGE, b"still held");
    assert_eq!(a.domain.grants.usage().1, 1);
    assert_eq!(b.unmap(handle, HOLE), 0);
    assert_eq!(a.domain.grants.usage().1, 0);
    assert_eq!(a.flags(9), 0);
}

#[test]
fn handles_are_limited_and_used_again() {
    let (world, _dom0) = World::new();
    let (a, b) = (world.guest(1, 1), world.guest(2, 1));
    a.show_table();
    a.set_entry(9, PERMIT, 2, 3);
    // 4 frames of maptrack: 512 handles.
    let mut handles = std::vec::Vec::new();
    for i in 0..512 {
        handles.push(b.map(1, 9, HOLE + i, 0).expect("mapped"));
    }
    assert_eq!(b.map(1, 9, HOLE + 512, 0), Err(Status::NoSpace as i16));
    assert_eq!(b.unmap(handles[100], HOLE + 100), 0);
    assert_eq!(b.map(1, 9, HOLE + 100, 0), Ok(handles[100]));
}

#[test]
fn long_lists_are_done_in_parts_and_lying_ones_fail() {
    let (_world, a, b) = pair();
    a.set_entry(9, PERMIT, 2, 3);
    let op = abi::GnttabCopy {
        source: super::copy_ptr(9, 1, 0),
        dest: super::copy_ptr(5, DomainId::SELF.0, 0),
        len: 8,
        flags: abi::GNTCOPY_SOURCE_GREF,
        status: 77,
        ..Zeroable::zeroed()
    };
    for i in 0..100 {
        b.write(20 * PAGE + i * size_of_val(&op) as u64, &op);
    }
    let args = [abi::GNTTABOP_COPY.into(), 20 * PAGE, 100];
    let (result, parts) = b.call_on(0, abi::HYPERVISOR_GRANT_TABLE_OP, &args);
    assert_eq!((result, parts), (0, 2));
    for i in 0..100 {
        let done: abi::GnttabCopy = b.read(20 * PAGE + i * size_of_val(&op) as u64);
        assert_eq!(done.status, 0, "operation {i}");
    }
    let args = [abi::GNTTABOP_COPY.into(), 20 * PAGE, u64::MAX];
    let number = abi::HYPERVISOR_GRANT_TABLE_OP;
    assert_eq!(b.call(number, &args), errno(Errno::Inval));
    let args = [abi::GNTTABOP_COPY.into(), 31 * PAGE, u32::MAX.into()];
    assert_eq!(
        b.call(number, &args),
        errno(Errno::Fault),
        "it ends where memory ends"
    );
    let args = [abi::GNTTABOP_COPY.into(), u64::MAX - 3, 5];
    assert_eq!(b.call(number, &args), errno(Errno::Fault));
}

/// One list: a handle twice, one that there is not, one at a wrong place.
/// Each has its own status, the good ones are gone and their granter knows.
#[test]
fn a_list_of_unmaps_tells_each_its_own() {
    let (_world, a, b) = pair();
    a.set_entry(9, PERMIT, 2, 3);
    let mut asked: std::vec::Vec<(u32, u64)> = (0..40)
        .map(|i| (b.map(1, 9, HOLE + i, 0).expect("mapped"), HOLE + i))
        .collect();
    let kept = asked[30];
    asked[30].1 += 1000;
    asked.insert(7, asked[6]);
    asked.insert(20, (u32::MAX, HOLE));
    let bad = Status::BadHandle as i16;
    let at = |i: usize| 20 * PAGE + (i * size_of::<abi::GnttabUnmapGrantRef>()) as u64;
    for (i, (handle, gfn)) in asked.iter().enumerate() {
        let op = abi::GnttabUnmapGrantRef {
            host_addr: gfn * PAGE,
            handle: *handle,
            status: 77,
            ..Zeroable::zeroed()
        };
        b.write(at(i), &op);
    }
    let args = [
        abi::GNTTABOP_UNMAP_GRANT_REF.into(),
        at(0),
        asked.len() as u64,
    ];
    let (result, parts) = b.call_on(0, abi::HYPERVISOR_GRANT_TABLE_OP, &args);
    assert_eq!((result, parts), (0, 1));
    for i in 0..asked.len() {
        let done: abi::GnttabUnmapGrantRef = b.read(at(i));
        let want = if [7, 20, 32].contains(&i) { bad } else { 0 };
        assert_eq!(done.status, want, "operation {i}");
    }
    assert_eq!(b.domain.grants.usage().0, 1);
    assert_eq!(a.domain.grants.usage().1, 1);
    assert_eq!(b.unmap(kept.0, kept.1), 0);
    assert_eq!((a.domain.grants.usage().1, a.flags(9)), (0, PERMIT));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever two domains do to their tables and each other's: counts agree, and when both are
    /// gone all frames are free again.
    #[test]
    fn accounts_balance(steps in prop::collection::vec(
        (0u8..7, any::<bool>(), 0u32..6, any::<u8>()), 1..120)
    ) {
        let (world, _dom0) = World::new();
        let free = world.free_frames();
        let (a, b) = (world.guest(1, 1), world.guest(2, 1));
        a.show_table();
        b.show_table();
        let mut handles: [std::vec::Vec<(u32, u64)>; 2] = Default::default();
        for (what, first, grant, byte) in steps {
            let (actor, other) = if first { (&a, &b) } else { (&b, &a) };
            let mine = &mut handles[usize::from(!first)];
            let place = HOLE + u64::from(byte % 8);
            match what {
                0 | 1 => actor.set_entry(grant, u16::from(byte & 7), other.id(), 3 + grant),
                2 | 3 => {
                    let flags = if byte & 8 != 0 { abi::GNTMAP_READONLY } else { 0 };
                    if let Ok(handle) = actor.map(other.id(), grant, place, flags) {
                        mine.push((handle, place));
                    }
                }
                4 => {
                    if let Some((handle, place)) = mine.pop() {
                        prop_assert_eq!(actor.unmap(handle, place), 0);
                    }
                }
                5 => {
                    let _ = actor.domain.memory.release(Gfn::new(3 + u64::from(grant)));
                }
                _ => {
                    let mut op = abi::GnttabSwapGrantRef {
                        ref_a: grant,
                        ref_b: u32::from(byte % 6),
                        ..Zeroable::zeroed()
                    };
                    actor.grant_op(abi::GNTTABOP_SWAP_GRANT_REF, &mut op);
                }
            }
            prop_assert_eq!(a.domain.grants.usage().0, handles[0].len());
            prop_assert_eq!(b.domain.grants.usage().0, handles[1].len());
        }
        world.destroy(&a.domain);
        for (handle, place) in core::mem::take(&mut handles[1]) {
            prop_assert_eq!(b.unmap(handle, place), 0);
        }
        world.destroy(&b.domain);
        drop((a, b));
        prop_assert_eq!(world.free_frames(), free);
    }
}
