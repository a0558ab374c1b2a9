//! Grant tables (xen/grant_table.h): the shared entries and the operations.

use crate::GuestHandle;

abi! {
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
        GNTMAP_GUEST_AVAIL_MASK = 0xffff_0000;
        GNTTAB_NR_RESERVED_ENTRIES = 8;
        GNTTAB_RESERVED_CONSOLE = 0;
        GNTTAB_RESERVED_XENSTORE = 1;
        GNTTAB_CACHE_CLEAN = 1 << 0;
        GNTTAB_CACHE_INVAL = 1 << 1;
        GNTTAB_CACHE_SOURCE_GREF = 1 << 31;
    }

    abi_consts! { u16:
        GTF_INVALID = 0;
        GTF_PERMIT_ACCESS = 1 << 0;
        GTF_ACCEPT_TRANSFER = 1 << 1;
        GTF_TRANSITIVE = 3;
        GTF_TYPE_MASK = 3;
        GTF_READONLY = 1 << 2;
        GTF_READING = 1 << 3;
        GTF_WRITING = 1 << 4;
        GTF_PWT = 1 << 5;
        GTF_PCD = 1 << 6;
        GTF_PAT = 1 << 7;
        GTF_SUB_PAGE = 1 << 8;
        GTF_TRANSFER_COMMITTED = 1 << 2;
        GTF_TRANSFER_COMPLETED = 1 << 3;
        GNTCOPY_SOURCE_GREF = 1 << 0;
        GNTCOPY_DEST_GREF = 1 << 1;
    }

    abi_consts! { i16:
        GNTST_OKAY = 0;
        GNTST_GENERAL_ERROR = -1;
        GNTST_BAD_DOMAIN = -2;
        GNTST_BAD_GNTREF = -3;
        GNTST_BAD_HANDLE = -4;
        GNTST_BAD_VIRT_ADDR = -5;
        GNTST_BAD_DEV_ADDR = -6;
        GNTST_NO_DEVICE_SPACE = -7;
        GNTST_PERMISSION_DENIED = -8;
        GNTST_BAD_PAGE = -9;
        GNTST_BAD_COPY_ARG = -10;
        GNTST_ADDRESS_TOO_BIG = -11;
        GNTST_EAGAIN = -12;
        GNTST_NO_SPACE = -13;
    }

    abi_struct! {
        /// An entry of the shared table, version 1.
        pub struct GrantEntryV1 = "struct grant_entry_v1", 8 {
            pub flags: u16,
            pub domid: u16,
            pub frame: u32,
        }

        /// The start of each version 2 entry.
        pub struct GrantEntryHeader = "struct grant_entry_header", 4 {
            pub flags: u16,
            pub domid: u16,
        }

        /// A version 2 entry for a full page.
        pub struct GrantEntryV2FullPage = "__typeof__(((union grant_entry_v2 *)0)->full_page)", 16 {
            pub hdr: GrantEntryHeader,
            pub pad0: u32,
            pub frame: u64,
        }

        /// A version 2 entry for a part of a page.
        pub struct GrantEntryV2SubPage = "__typeof__(((union grant_entry_v2 *)0)->sub_page)", 16 {
            pub hdr: GrantEntryHeader,
            pub page_off: u16,
            pub length: u16,
            pub frame: u64,
        }

        /// A version 2 entry that hands on another domain's grant.
        pub struct GrantEntryV2Transitive = "__typeof__(((union grant_entry_v2 *)0)->transitive)", 12 {
            pub hdr: GrantEntryHeader,
            pub trans_domid: u16,
            pub pad0: u16,
            pub gref: u32,
        }

        /// `GNTTABOP_MAP_GRANT_REF`.
        pub struct GnttabMapGrantRef = "struct gnttab_map_grant_ref", 32 {
            pub host_addr: u64,
            pub flags: u32,
            pub grant_ref as "ref": u32,
            pub dom: u16,
            pub status: i16,
            pub handle: u32,
            pub dev_bus_addr: u64,
        }

        /// `GNTTABOP_UNMAP_GRANT_REF`.
        pub struct GnttabUnmapGrantRef = "struct gnttab_unmap_grant_ref", 24 {
            pub host_addr: u64,
            pub dev_bus_addr: u64,
            pub handle: u32,
            pub status: i16,
            pub _pad: u16,
        }

        /// `GNTTABOP_SETUP_TABLE`.
        pub struct GnttabSetupTable = "struct gnttab_setup_table", 24 {
            pub dom: u16,
            pub _pad0: u16,
            pub nr_frames: u32,
            pub status: i16,
            pub _pad1: [u16; 3],
            pub frame_list: GuestHandle<u64>,
        }

        /// `GNTTABOP_DUMP_TABLE`.
        pub struct GnttabDumpTable = "struct gnttab_dump_table", 4 {
            pub dom: u16,
            pub status: i16,
        }

        /// `GNTTABOP_TRANSFER`.
        pub struct GnttabTransfer = "struct gnttab_transfer", 24 {
            pub mfn: u64,
            pub domid: u16,
            pub _pad0: u16,
            pub grant_ref as "ref": u32,
            pub status: i16,
            pub _pad1: [u16; 3],
        }

        /// One side of a copy. `u` is a frame number, or a grant reference in its low half.
        pub struct GnttabCopyPtr = "struct gnttab_copy_ptr", 16 {
            pub u: u64,
            pub domid: u16,
            pub offset: u16,
            pub _pad: u32,
        }

        /// `GNTTABOP_COPY`.
        pub struct GnttabCopy = "struct gnttab_copy", 40 {
            pub source: GnttabCopyPtr,
            pub dest: GnttabCopyPtr,
            pub len: u16,
            pub flags: u16,
            pub status: i16,
            pub _pad: u16,
        }

        /// `GNTTABOP_QUERY_SIZE`.
        pub struct GnttabQuerySize = "struct gnttab_query_size", 16 {
            pub dom: u16,
            pub _pad0: u16,
            pub nr_frames: u32,
            pub max_nr_frames: u32,
            pub status: i16,
            pub _pad1: u16,
        }

        /// `GNTTABOP_UNMAP_AND_REPLACE`.
        pub struct GnttabUnmapAndReplace = "struct gnttab_unmap_and_replace", 24 {
            pub host_addr: u64,
            pub new_addr: u64,
            pub handle: u32,
            pub status: i16,
            pub _pad: u16,
        }

        /// `GNTTABOP_SET_VERSION`.
        pub struct GnttabSetVersion = "struct gnttab_set_version", 4 {
            pub version: u32,
        }

        /// `GNTTABOP_GET_STATUS_FRAMES`.
        pub struct GnttabGetStatusFrames = "struct gnttab_get_status_frames", 16 {
            pub nr_frames: u32,
            pub dom: u16,
            pub status: i16,
            pub frame_list: GuestHandle<u64>,
        }

        /// `GNTTABOP_GET_VERSION`.
        pub struct GnttabGetVersion = "struct gnttab_get_version", 8 {
            pub dom: u16,
            pub pad: u16,
            pub version: u32,
        }

        /// `GNTTABOP_SWAP_GRANT_REF`.
        pub struct GnttabSwapGrantRef = "struct gnttab_swap_grant_ref", 12 {
            pub ref_a: u32,
            pub ref_b: u32,
            pub status: i16,
            pub _pad: u16,
        }

        /// `GNTTABOP_CACHE_FLUSH`. `a` is a bus address, or a grant reference in its low half.
        pub struct GnttabCacheFlush = "struct gnttab_cache_flush", 16 {
            pub a: u64,
            pub offset: u16,
            pub length: u16,
            pub op: u32,
        }
    }
}
