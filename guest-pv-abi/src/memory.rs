//! xen/memory.h.

abi_consts! { u32:
    XENMEM_INCREASE_RESERVATION = 0;
    XENMEM_DECREASE_RESERVATION = 1;
    XENMEM_MAXIMUM_RAM_PAGE = 2;
    XENMEM_CURRENT_RESERVATION = 3;
    XENMEM_MAXIMUM_RESERVATION = 4;
    XENMEM_POPULATE_PHYSMAP = 6;
    XENMEM_ADD_TO_PHYSMAP = 7;
    XENMEM_MEMORY_MAP = 9;
    XENMEM_MACHINE_MEMORY_MAP = 10;
    XENMEM_SET_MEMORY_MAP = 13;
    XENMEM_MAXIMUM_GPFN = 14;
    XENMEM_REMOVE_FROM_PHYSMAP = 15;
    XENMEM_ADD_TO_PHYSMAP_BATCH = 23;
    XENMEM_CLAIM_PAGES = 24;
    XENMEM_RESERVED_DEVICE_MEMORY_MAP = 27;
    XENMEM_ACQUIRE_RESOURCE = 28;

    XENMAPSPACE_SHARED_INFO = 0;
    XENMAPSPACE_GRANT_TABLE = 1;
    XENMAPSPACE_GMFN = 2;
    XENMAPSPACE_GMFN_RANGE = 3;
    XENMAPSPACE_GMFN_FOREIGN = 4;
    XENMAPSPACE_DEV_MMIO = 5;

    XENMEM_RESOURCE_IOREQ_SERVER = 0;
    XENMEM_RESOURCE_GRANT_TABLE = 1;
    XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED = 0;
}

abi_struct! {
    pub struct MemoryReservation {
        pub extent_start: u64, pub nr_extents: u64, pub extent_order: u32, pub mem_flags: u32,
        pub domid: u16, pub _pad: [u16; 3],
    }
    pub struct AddToPhysmap {
        pub domid: u16, pub size: u16, pub space: u32, pub idx: u64, pub gpfn: u64,
    }
    pub struct AddToPhysmapBatch {
        pub domid: u16, pub space: u16, pub size: u16, pub foreign_domid: u16,
        pub idxs: u64, pub gpfns: u64, pub errs: u64,
    }
    pub struct RemoveFromPhysmap { pub domid: u16, pub _pad: [u16; 3], pub gpfn: u64, }
    pub struct MemoryMap { pub nr_entries: u32, pub _pad: u32, pub buffer: u64, }
    pub struct ForeignMemoryMap { pub domid: u16, pub _pad0: [u16; 3], pub nr_entries: u32, pub _pad1: u32, pub buffer: u64, }
    pub struct ReservedDeviceMemoryMap { pub flags: u32, pub nr_entries: u32, pub buffer: u64, pub dev: [u8; 8], }
    pub struct AcquireResource {
        pub domid: u16, pub kind: u16, pub id: u32, pub nr_frames: u32, pub _pad: u32, pub frame: u64, pub frame_list: u64,
    }
}

/// `struct e820entry`: packed, 20 bytes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout,
    zerocopy::Immutable,
)]
#[repr(C, packed)]
pub struct E820Entry {
    pub addr: u64,
    pub size: u64,
    pub kind: u32,
}

abi_consts! { u32:
    E820_RAM = 1;
    E820_RESERVED = 2;
    E820_ACPI = 3;
    E820_NVS = 4;
    E820_UNUSABLE = 5;
}
