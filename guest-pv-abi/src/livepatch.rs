//! Live patching (xen/sysctl.h, `XEN_SYSCTL_LIVEPATCH_OP`).

use crate::GuestHandle;

abi! {
    abi_consts! { u32:
        LIVEPATCH_PAYLOAD_VERSION = 2;
        XEN_LIVEPATCH_NAME_SIZE = 128;
        XEN_SYSCTL_LIVEPATCH_UPLOAD = 0;
        XEN_SYSCTL_LIVEPATCH_GET = 1;
        XEN_SYSCTL_LIVEPATCH_LIST = 2;
        XEN_SYSCTL_LIVEPATCH_ACTION = 3;
        LIVEPATCH_STATE_CHECKED = 1;
        LIVEPATCH_STATE_APPLIED = 2;
        LIVEPATCH_ACTION_UNLOAD = 1;
        LIVEPATCH_ACTION_REVERT = 2;
        LIVEPATCH_ACTION_APPLY = 3;
        LIVEPATCH_ACTION_REPLACE = 4;
        LIVEPATCH_ACTION_APPLY_NODEPS = 1 << 0;
    }

    abi_struct! {
        /// A payload's name.
        pub struct LivepatchName = "struct xen_livepatch_name", 16 {
            pub name: GuestHandle<u8>,
            pub size: u16,
            pub pad: [u16; 3],
        }

        /// `XEN_SYSCTL_LIVEPATCH_UPLOAD`.
        pub struct SysctlLivepatchUpload = "struct xen_sysctl_livepatch_upload", 32 {
            pub name: LivepatchName,
            pub size: u64,
            pub payload: GuestHandle<u8>,
        }

        /// A payload's state and the result of its last action.
        pub struct LivepatchStatus = "struct xen_livepatch_status", 8 {
            pub state: u32,
            pub rc: i32,
        }

        /// `XEN_SYSCTL_LIVEPATCH_GET`.
        pub struct SysctlLivepatchGet = "struct xen_sysctl_livepatch_get", 24 {
            pub name: LivepatchName,
            pub status: LivepatchStatus,
        }

        /// `XEN_SYSCTL_LIVEPATCH_LIST`.
        pub struct SysctlLivepatchList = "struct xen_sysctl_livepatch_list", 64 {
            pub version: u32,
            pub idx: u32,
            pub nr: u32,
            pub pad: u32,
            pub name_total_size: u32,
            pub metadata_total_size: u32,
            pub status: GuestHandle<LivepatchStatus>,
            pub name: GuestHandle<u8>,
            pub len: GuestHandle<u32>,
            pub metadata: GuestHandle<u8>,
            pub metadata_len: GuestHandle<u32>,
        }

        /// `XEN_SYSCTL_LIVEPATCH_ACTION`.
        pub struct SysctlLivepatchAction = "struct xen_sysctl_livepatch_action", 32 {
            pub name: LivepatchName,
            pub cmd: u32,
            pub timeout: u32,
            pub flags: u32,
            pub pad: u32,
        }

        /// `XEN_SYSCTL_LIVEPATCH_OP`.
        pub struct SysctlLivepatchOp = "struct xen_sysctl_livepatch_op", 72 {
            pub cmd: u32,
            pub pad: u32,
            pub u: [u8; 64],
        }
    }
}
