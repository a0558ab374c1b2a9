//! Block devices (xen/io/blkif.h).

abi! {
    abi_consts! { u8:
        BLKIF_OP_READ = 0;
        BLKIF_OP_WRITE = 1;
        BLKIF_OP_WRITE_BARRIER = 2;
        BLKIF_OP_FLUSH_DISKCACHE = 3;
        BLKIF_OP_RESERVED_1 = 4;
        BLKIF_OP_DISCARD = 5;
        BLKIF_OP_INDIRECT = 6;
        BLKIF_DISCARD_SECURE = 1 << 0;
    }

    abi_consts! { i16:
        BLKIF_RSP_EOPNOTSUPP = -2;
        BLKIF_RSP_ERROR = -1;
        BLKIF_RSP_OKAY = 0;
    }

    abi_consts! { u32:
        BLKIF_MAX_SEGMENTS_PER_REQUEST = 11;
        BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST = 8;
        VDISK_CDROM = 0x1;
        VDISK_REMOVABLE = 0x2;
        VDISK_READONLY = 0x4;
    }

    abi_consts! { usize:
        /// The size of a slot, for a request or a response.
        BLKIF_RING_SLOT = 112 => "sizeof(union blkif_sring_entry)";
        /// Slots in a ring of one page.
        BLKIF_RING_SLOTS = crate::ring_slots(4096, BLKIF_RING_SLOT) => "__CONST_RING_SIZE(blkif, 4096)";
    }

    abi_struct! {
        /// Sectors of a granted page.
        pub struct BlkifRequestSegment = "struct blkif_request_segment", 8 {
            pub gref: u32,
            pub first_sect: u8,
            pub last_sect: u8,
            pub _pad: u16,
        }

        /// A read, write or flush.
        pub struct BlkifRequest = "struct blkif_request", 112 {
            pub operation: u8,
            pub nr_segments: u8,
            pub handle: u16,
            pub _pad: u32,
            pub id: u64,
            pub sector_number: u64,
            pub seg: [BlkifRequestSegment; 11],
        }

        /// A discard.
        pub struct BlkifRequestDiscard = "struct blkif_request_discard", 32 {
            pub operation: u8,
            pub flag: u8,
            pub handle: u16,
            pub _pad: u32,
            pub id: u64,
            pub sector_number: u64,
            pub nr_sectors: u64,
        }

        /// A request whose segments stand in granted pages.
        pub struct BlkifRequestIndirect = "struct blkif_request_indirect", 64 {
            pub operation: u8,
            pub indirect_op: u8,
            pub nr_segments: u16,
            pub _pad0: u32,
            pub id: u64,
            pub sector_number: u64,
            pub handle: u16,
            pub _pad1: u16,
            pub indirect_grefs: [u32; 8],
            pub _pad2: u32,
        }

        /// A response.
        pub struct BlkifResponse = "struct blkif_response", 16 {
            pub id: u64,
            pub operation: u8,
            pub _pad0: u8,
            pub status: i16,
            pub _pad1: u32,
        }
    }
}
