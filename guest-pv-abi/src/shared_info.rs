//! The page that a domain shares with the hypervisor (xen/xen.h, x86-64): vcpus' event words and
//! clocks, pending and masked ports of the two-level ABI, the wall clock.

use crate::{ArchSharedInfo, ArchVcpuInfo};

abi! {
    abi_consts! { u8:
        XEN_PVCLOCK_TSC_STABLE_BIT = 1 << 0;
        XEN_PVCLOCK_GUEST_STOPPED = 1 << 1;
    }

    abi_struct! {
        /// A vcpu's clock. `version` is odd while the rest changes.
        pub struct VcpuTimeInfo = "struct vcpu_time_info", 32 {
            pub version: u32,
            pub pad0: u32,
            pub tsc_timestamp: u64,
            pub system_time: u64,
            pub tsc_to_system_mul: u32,
            pub tsc_shift: i8,
            pub flags: u8,
            pub pad1: [u8; 2],
        }

        /// A vcpu's part of the page, or the area that it registered in its place.
        pub struct VcpuInfo = "struct vcpu_info", 64 {
            pub evtchn_upcall_pending: u8,
            pub evtchn_upcall_mask: u8,
            pub _pad: [u8; 6],
            pub evtchn_pending_sel: u64,
            pub arch: ArchVcpuInfo,
            pub time: VcpuTimeInfo,
        }

        /// The page.
        pub struct SharedInfo = "struct shared_info", 3136 {
            pub vcpu_info: [VcpuInfo; 32],
            pub evtchn_pending: [u64; 64],
            pub evtchn_mask: [u64; 64],
            pub wc_version: u32,
            pub wc_sec: u32,
            pub wc_nsec: u32,
            pub wc_sec_hi: u32,
            pub arch: ArchSharedInfo,
        }
    }
}
