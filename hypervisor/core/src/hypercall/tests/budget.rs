//! One entry to the hypervisor does a bounded amount of work, however its calls are put together.

use std::vec::Vec;

use bytemuck::Zeroable;
use guest_pv_abi as abi;
use oxen_types::{DomainId, Gfn};

use crate::hypercall::Outcome;
use crate::testing::{Guest, PAGE, World};

const ENTRIES: u64 = 12 * PAGE;
const ASKS: u64 = 13 * PAGE;
const LISTS: u64 = 20 * PAGE;
/// Pages that one entry may clear, and flushes that it may wait for.
const PAGES: u64 = 512;
const FLUSHES: u32 = 32;

/// A multicall of memory operations on lists of 256 pages each; the first part's arguments.
fn lists(guest: &Guest, cmd: u32, count: u64) -> [u64; 6] {
    for n in 0..count {
        let list = LISTS + n * PAGE;
        let gfns: Vec<u64> = (0..256).map(|page| 1000 + (n * 256 + page)).collect();
        guest.write_all(list, &gfns);
        let ask = abi::MemoryReservation {
            extent_start: list,
            nr_extents: 256,
            domid: DomainId::SELF.0,
            ..Zeroable::zeroed()
        };
        let size = size_of::<abi::MemoryReservation>() as u64;
        guest.write(ASKS + n * size, &ask);
        let entry = abi::MulticallEntry {
            op: abi::HYPERVISOR_MEMORY_OP.into(),
            result: 0,
            args: [cmd.into(), ASKS + n * size, 0, 0, 0, 0],
        };
        let size = size_of::<abi::MulticallEntry>() as u64;
        guest.write(ENTRIES + n * size, &entry);
    }
    [ENTRIES, count, 0, 0, 0, 0]
}

fn results(guest: &Guest, count: usize) -> Vec<u64> {
    let entries: [abi::MulticallEntry; 32] = guest.read(ENTRIES);
    entries
        .iter()
        .take(count)
        .map(|entry| entry.result)
        .collect()
}

fn guest(world: &World) -> Guest {
    let guest = world.guest(1, 1);
    guest.domain.memory.set_max_frames(4000);
    guest
}

/// A list that ends just where the budget does is the whole of the entry.
#[test]
fn the_calls_of_a_multicall_share_one_budget() {
    let (world, _dom0) = World::new();
    let guest = guest(&world);
    let mut args = lists(&guest, abi::XENMEM_POPULATE_PHYSMAP, 6);
    let mut had = guest.domain.memory.ram_frames();
    let mut parts = 0;
    while guest.enter(abi::HYPERVISOR_MULTICALL, &mut args) == Outcome::Again {
        let has = guest.domain.memory.ram_frames();
        assert!(has - had <= PAGES, "{} pages in one entry", has - had);
        (had, parts) = (has, parts + 1);
    }
    assert!(parts >= 3, "{parts} parts");
    assert_eq!(results(&guest, 6), [256; 6]);
}

#[test]
fn releases_are_flushed_together_and_flushes_are_counted() {
    let (world, dom0) = World::new();
    world.destroy(&dom0.domain);
    let guest = guest(&world);
    for gfn in 1000..1000 + 256 * 6 {
        guest.domain.memory.populate(Gfn::new(gfn), 0).expect("RAM");
    }
    let mut args = lists(&guest, abi::XENMEM_DECREASE_RESERVATION, 6);
    let start = world.frames.flushes();
    loop {
        let before = world.frames.flushes();
        let outcome = guest.enter(abi::HYPERVISOR_MULTICALL, &mut args);
        let flushes = world.frames.flushes() - before;
        assert!(flushes <= FLUSHES, "{flushes} flushes in one entry");
        if outcome != Outcome::Again {
            break;
        }
    }
    assert_eq!(results(&guest, 6), [256; 6]);
    assert_eq!(world.frames.flushes() - start, 6 * 256 / 64);
}

/// Calls that flush once each, whatever they are told: the worst that a list can ask for.
#[test]
fn a_multicall_of_flushes_is_cut_up() {
    let (world, _dom0) = World::new();
    let guest = guest(&world);
    let entry = abi::MulticallEntry {
        op: abi::HYPERVISOR_MEMORY_OP.into(),
        result: 0,
        args: [abi::XENMEM_REMOVE_FROM_PHYSMAP.into(), ASKS, 0, 0, 0, 0],
    };
    let mut asks = Vec::new();
    let mut entries = Vec::new();
    for n in 0..60u64 {
        guest
            .domain
            .memory
            .populate(Gfn::new(1000 + n), 0)
            .expect("RAM");
        asks.push(abi::RemoveFromPhysmap {
            domid: DomainId::SELF.0,
            gpfn: 1000 + n,
            ..Zeroable::zeroed()
        });
        let at = ASKS + n * size_of::<abi::RemoveFromPhysmap>() as u64;
        entries.push(abi::MulticallEntry {
            args: [entry.args[0], at, 0, 0, 0, 0],
            ..entry
        });
    }
    guest.write_all(ASKS, &asks);
    guest.write_all(LISTS, &entries);
    let mut args = [LISTS, 60, 0, 0, 0, 0];
    let mut parts = 1;
    let mut before = world.frames.flushes();
    while guest.enter(abi::HYPERVISOR_MULTICALL, &mut args) == Outcome::Again {
        let flushes = world.frames.flushes() - before;
        assert!(flushes <= FLUSHES, "{flushes} flushes in one entry");
        (before, parts) = (world.frames.flushes(), parts + 1);
    }
    assert!(parts >= 2);
    assert_eq!(guest.domain.memory.ram_frames(), 32);
}

#[test]
fn moves_within_a_range_are_flushed_together() {
    let (world, _dom0) = World::new();
    let guest = guest(&world);
    for gfn in 1000..1100 {
        guest.domain.memory.populate(Gfn::new(gfn), 0).expect("RAM");
    }
    let mut ask = abi::AddToPhysmap {
        domid: DomainId::SELF.0,
        size: 100,
        space: abi::XENMAPSPACE_GMFN_RANGE,
        idx: 1000,
        gpfn: 2000,
    };
    let before = world.frames.flushes();
    let cmd = abi::XENMEM_ADD_TO_PHYSMAP;
    assert_eq!(guest.op(abi::HYPERVISOR_MEMORY_OP, cmd, &mut ask), 0);
    assert_eq!(world.frames.flushes() - before, 2);
    assert!(guest.domain.memory.lookup(Gfn::new(2099)).is_some());
    // What is not there ends the call, and what was moved before stays moved.
    let mut back = abi::AddToPhysmap {
        idx: 2050,
        gpfn: 1000,
        ..ask
    };
    assert!(guest.op(abi::HYPERVISOR_MEMORY_OP, cmd, &mut back) < 0);
    assert!(guest.domain.memory.lookup(Gfn::new(1049)).is_some());
    assert!(guest.domain.memory.lookup(Gfn::new(1050)).is_none());
}
