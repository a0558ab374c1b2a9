//! xen/grant_table.h, version 1.

abi_consts! { u32:
    GNTTABOP_MAP_GRANT_REF = 0;
    GNTTABOP_UNMAP_GRANT_REF = 1;
    GNTTABOP_SETUP_TABLE = 2;
    GNTTABOP_DUMP_TABLE = 3;
    GNTTABOP_TRANSFER = 4;
    GNTTABOP_COPY = 5;
    GNTTABOP_QUERY_SIZE = 6;
    GNTTABOP_UNMAP_AND_REPLACE = 7;
    GNTTABOP_SET_VERSION = 8;
    GNTTABOP_GET_STATUS_FRAMES = 9;
    GNTTABOP_GET_VERSION = 10;
    GNTTABOP_SWAP_GRANT_REF = 11;
    GNTTABOP_CACHE_FLUSH = 12;

    GNTMAP_DEVICE_MAP = 1 << 0;
    GNTMAP_HOST_MAP = 1 << 1;
    GNTMAP_READONLY = 1 << 2;
    GNTMAP_APPLICATION_MAP = 1 << 3;
    GNTMAP_CONTAINS_PTE = 1 << 4;
}

abi_consts! { u16:
    GNTCOPY_SOURCE_GREF = 1 << 0;
    GNTCOPY_DEST_GREF = 1 << 1;
}

abi_struct! {
    pub struct GnttabMapGrantRef {
        pub host_addr: u64, pub flags: u32, pub grant_ref: u32, pub dom: u16,
        pub status: i16, pub handle: u32, pub dev_bus_addr: u64,
    }
    pub struct GnttabUnmapGrantRef {
        pub host_addr: u64, pub dev_bus_addr: u64, pub handle: u32, pub status: i16, pub _pad: u16,
    }
    pub struct GnttabSetupTable {
        pub dom: u16, pub _pad0: u16, pub nr_frames: u32, pub status: i16, pub _pad1: [u16; 3], pub frame_list: u64,
    }
    pub struct GnttabCopyPtr { pub u: u64, pub domid: u16, pub offset: u16, pub _pad: u32, }
    pub struct GnttabCopy {
        pub source: GnttabCopyPtr, pub dest: GnttabCopyPtr, pub len: u16, pub flags: u16, pub status: i16, pub _pad: u16,
    }
    pub struct GnttabQuerySize {
        pub dom: u16, pub _pad0: u16, pub nr_frames: u32, pub max_nr_frames: u32, pub status: i16, pub _pad1: u16,
    }
    pub struct GnttabSetVersion { pub version: u32, }
    pub struct GnttabGetVersion { pub dom: u16, pub _pad: u16, pub version: u32, }
    pub struct GnttabSwapGrantRef { pub ref_a: u32, pub ref_b: u32, pub status: i16, pub _pad: u16, }
}
