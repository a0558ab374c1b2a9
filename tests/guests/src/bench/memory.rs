//! Pages given back and asked for again; and what [`super::pair`] does with another guest's page.

use guest_pv_abi as abi;

use super::{Bench, measure};
use crate::base::hypercall;

pub const BENCHES: &[Bench] = &[("decrease-populate", decrease_populate)];

/// RAM above the kernel, that belongs to no Rust object.
const TABLE: u64 = 0x0060_0000;
const PAGE: u64 = 0x0070_0000;
const TARGET: u64 = 0x0071_0000;
/// The first entries are the console's and the store's.
pub const REFERENCE: u32 = 8;

/// Maps a domain's first grant over one of our pages, and unmaps it.
pub fn map_and_unmap(domain: u16) {
    let mut map = [abi::GnttabMapGrantRef {
        host_addr: TARGET,
        flags: abi::GNTMAP_HOST_MAP,
        grant_ref: REFERENCE,
        dom: domain,
        status: 0,
        handle: 0,
        dev_bus_addr: 0,
    }];
    hypercall::grant(abi::GNTTABOP_MAP_GRANT_REF, &mut map);
    assert!(map[0].status == abi::GNTST_OKAY, "map: {}", map[0].status);
    let mut unmap = [abi::GnttabUnmapGrantRef {
        host_addr: TARGET,
        dev_bus_addr: 0,
        handle: map[0].handle,
        status: 0,
        _pad: 0,
    }];
    hypercall::grant(abi::GNTTABOP_UNMAP_GRANT_REF, &mut unmap);
    assert!(
        unmap[0].status == abi::GNTST_OKAY,
        "unmap: {}",
        unmap[0].status
    );
}

/// Copies the page of a domain's first grant into one of ours.
pub fn copy_page(domain: u16) {
    let side = |u, domid| abi::GnttabCopyPtr {
        u,
        domid,
        offset: 0,
        _pad: 0,
    };
    let mut list = [abi::GnttabCopy {
        source: side(REFERENCE.into(), domain),
        dest: side((TARGET >> 12) + 1, abi::DOMID_SELF),
        len: 4096,
        flags: abi::GNTCOPY_SOURCE_GREF,
        status: 0,
        _pad: 0,
    }];
    hypercall::grant(abi::GNTTABOP_COPY, &mut list);
    assert!(
        list[0].status == abi::GNTST_OKAY,
        "copy: {}",
        list[0].status
    );
}

/// One page given back, and one populated in its place.
fn decrease_populate(name: &str) {
    const FRAME: u64 = 0x1000;
    measure(name, 64, || {
        for command in [
            abi::XENMEM_DECREASE_RESERVATION,
            abi::XENMEM_POPULATE_PHYSMAP,
        ] {
            let frame = FRAME;
            let mut reservation = abi::MemoryReservation {
                extent_start: (&raw const frame) as u64,
                nr_extents: 1,
                extent_order: 0,
                mem_flags: 0,
                domid: abi::DOMID_SELF,
                _pad: [0; 3],
            };
            let done = hypercall::memory(command, &mut reservation);
            assert!(done == 1, "memory operation {command}: {done}");
        }
    });
}

/// Lets a domain have our page, for reading and writing.
pub fn grant(domain: u16) {
    let mut add = abi::AddToPhysmap {
        domid: abi::DOMID_SELF,
        size: 0,
        space: abi::XENMAPSPACE_GRANT_TABLE,
        idx: 0,
        gpfn: TABLE >> 12,
    };
    let result = hypercall::memory(abi::XENMEM_ADD_TO_PHYSMAP, &mut add);
    assert!(result == 0, "no grant table: {result}");
    let entry = (PAGE >> 12) << 32 | u64::from(domain) << 16 | u64::from(abi::GTF_PERMIT_ACCESS);
    // SAFETY: the table is mapped there, and belongs to no Rust object.
    unsafe { ((TABLE + u64::from(REFERENCE) * 8) as *mut u64).write_volatile(entry) };
}

/// This domain's number, by the hypervisor's CPUID leaf 4.
pub fn own_domain() -> u16 {
    core::arch::x86_64::__cpuid(0x4000_0004).ecx as u16
}
