//! A dead domain is listed, and its number its own, until nobody holds frames of it.

use super::*;
use crate::seams::FrameSource;

const MEMORY: u32 = abi::HYPERVISOR_MEMORY_OP;
const HOLE: u64 = 300;

/// dom0 maps a page of a guest's, which is then destroyed.
fn held() -> (World, Guest) {
    let (world, dom0) = World::new();
    world.guest(7, 1);
    dom0.write(LIST, &[7u64]);
    dom0.write(LIST + PAGE, &[HOLE]);
    let mut ask = abi::AddToPhysmapBatch {
        domid: DomainId::SELF.0,
        space: abi::XENMAPSPACE_GMFN_FOREIGN as u16,
        size: 1,
        foreign_domid: 7,
        idxs: LIST,
        gpfns: LIST + PAGE,
        errs: LIST + 2 * PAGE,
    };
    assert_eq!(
        dom0.op(MEMORY, abi::XENMEM_ADD_TO_PHYSMAP_BATCH, &mut ask),
        0
    );
    assert_eq!(dom0.domctl(abi::XEN_DOMCTL_DESTROYDOMAIN, 7, &mut 0u64), 0);
    (world, dom0)
}

#[test]
fn a_dead_domain_is_listed_until_its_last_page_is_free() {
    let (world, dom0) = held();
    let seen = info(&dom0, 7).expect("it is listed");
    assert_ne!(seen.flags & abi::XEN_DOMINF_DYING, 0);
    assert_eq!(
        world.frames.held_by(DomainId(7)),
        2,
        "the page, and shared_info"
    );
    // Destroyed once more it is as dead as before, and its number is not free.
    assert_eq!(dom0.domctl(abi::XEN_DOMCTL_DESTROYDOMAIN, 7, &mut 0u64), 0);
    assert_eq!(create(&dom0, 7, &pvh(1)), Err(errno(Errno::Exist)));
    assert_ne!(create(&dom0, 0, &pvh(1)), Ok(7));
    // No memory of it can be asked for any more.
    let size = &mut (1u64 << 20);
    let set = dom0.domctl(abi::XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE, 7, size);
    assert_eq!(set, errno(Errno::Inval));
    let mut remove = abi::RemoveFromPhysmap {
        domid: DomainId::SELF.0,
        _pad: [0; 3],
        gpfn: HOLE,
    };
    assert_eq!(
        dom0.op(MEMORY, abi::XENMEM_REMOVE_FROM_PHYSMAP, &mut remove),
        0
    );
    assert_eq!(world.frames.held_by(DomainId(7)), 0);
    assert_eq!(create(&dom0, 7, &pvh(1)), Ok(7), "the number is free");
}
