//! Lists of hypercalls, in parts, with members that themselves go on.

use bytemuck::Zeroable;
use guest_pv_abi as abi;
use oxen_types::{DomainId, Errno};

use crate::testing::{PAGE, World, errno};

const LIST: u64 = 20 * PAGE;

fn entry(op: u32, args: &[u64]) -> abi::MulticallEntry {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    abi::MulticallEntry {
        op: op.into(),
        result: 0xdead,
        args: all,
    }
}

#[test]
fn each_call_has_its_result() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 1);
    let entries = [
        entry(abi::HYPERVISOR_XEN_VERSION, &[0]),
        entry(abi::HYPERVISOR_MULTICALL, &[LIST, 4]),
        entry(63, &[]),
        entry(abi::HYPERVISOR_DOMCTL, &[0]),
    ];
    guest.write(LIST, &entries);
    assert_eq!(guest.call(abi::HYPERVISOR_MULTICALL, &[LIST, 4]), 0);
    let done: [abi::MulticallEntry; 4] = guest.read(LIST);
    let results = done.map(|entry| entry.result as i64);
    let [inval, nosys, perm] = [Errno::Inval, Errno::NoSys, Errno::Perm].map(errno);
    assert_eq!(results, [4 << 16 | 17, inval, nosys, perm]);
}

#[test]
fn long_lists_and_long_members_go_on() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 1);
    guest.domain.memory.set_max_frames(2000);
    // The middle one populates 1000 pages, which takes two parts.
    let gfns: std::vec::Vec<u64> = (1000..2000).collect();
    guest.write_all(10 * PAGE, &gfns);
    let many = abi::MemoryReservation {
        extent_start: 10 * PAGE,
        nr_extents: 1000,
        domid: DomainId::SELF.0,
        ..Zeroable::zeroed()
    };
    guest.write(2 * PAGE, &many);
    let mut entries = [entry(abi::HYPERVISOR_XEN_VERSION, &[0]); 70];
    entries[35] = entry(
        abi::HYPERVISOR_MEMORY_OP,
        &[abi::XENMEM_POPULATE_PHYSMAP.into(), 2 * PAGE],
    );
    guest.write(LIST, &entries);
    let (result, parts) = guest.call_on(0, abi::HYPERVISOR_MULTICALL, &[LIST, 70]);
    assert_eq!((result, parts), (0, 4));
    let done: [abi::MulticallEntry; 70] = guest.read(LIST);
    for (i, entry) in done.iter().enumerate() {
        let expected = if i == 35 { 1000 } else { 4 << 16 | 17 };
        assert_eq!(entry.result, expected, "entry {i}");
    }
}

#[test]
fn lists_that_lie() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 1);
    let number = abi::HYPERVISOR_MULTICALL;
    assert_eq!(guest.call(number, &[LIST, 0]), 0);
    let fault = errno(Errno::Fault);
    assert_eq!(guest.call(number, &[1 << 50, 1]), fault);
    assert_eq!(guest.call(number, &[u64::MAX - 8, u64::MAX]), fault);
    // All of memory from here on is one list; it ends where memory ends.
    assert_eq!(guest.call(number, &[30 * PAGE, u64::MAX]), fault);
    assert_eq!(guest.read::<u64>(30 * PAGE + 8) as i64, errno(Errno::NoSys));
}
