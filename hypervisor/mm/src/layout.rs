//! The hypervisor's part of the linear address space, laid out as Xen's x86-64 layout is
//! (design 7): what PV guests may keep in theirs begins above [`END`].

/// The first address of ours. The 256 GiB from here on stay free for the machine-to-physical table.
pub const START: u64 = 0xffff_8000_0000_0000;
/// Stacks, each between unmapped guard pages.
pub const STACKS: u64 = 0xffff_82c0_0000_0000;
pub const STACKS_END: u64 = 0xffff_82d0_0000_0000;
/// The image lies in the 256 GiB from here on.
pub const IMAGE: u64 = 0xffff_82d0_0000_0000;
pub const IMAGE_END: u64 = 0xffff_82e0_0000_0000;
/// Machine address 0: RAM, and devices where they were asked for.
pub const DIRECT_MAP: u64 = 0xffff_8300_0000_0000;
/// The first address that is not ours any more.
pub const END: u64 = 0xffff_8800_0000_0000;
/// Machine addresses that the direct map reaches.
pub const DIRECT_MAP_LEN: u64 = END - DIRECT_MAP;
/// Machine addresses that the bootstrap page tables reach.
pub const BOOT_MAPPED: u64 = 4 << 30;
