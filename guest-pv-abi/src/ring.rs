//! Request rings of split drivers (xen/io/ring.h): what stands before the slots of each of them.
//! A ring has as many slots as the largest power of two that fits into its pages.

abi! {
    abi_struct! {
        /// The producers' indices, and the indices at which each side wants an event.
        pub struct RingHeader = "struct blkif_sring", 64 before "ring" {
            pub req_prod: u32,
            pub req_event: u32,
            pub rsp_prod: u32,
            pub rsp_event: u32,
            pub pvt: [u8; 4],
            pub _pad: [u8; 44],
        }
    }
}

/// Slots of `slot` bytes in a ring of `bytes` bytes, header included.
pub const fn ring_slots(bytes: usize, slot: usize) -> usize {
    let Some(space) = bytes.checked_sub(size_of::<RingHeader>()) else {
        return 0;
    };
    let Some(slots) = space.checked_div(slot) else {
        return 0;
    };
    if slots == 0 { 0 } else { 1 << slots.ilog2() }
}
