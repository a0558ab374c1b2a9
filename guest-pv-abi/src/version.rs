//! Version, build and features of the hypervisor (xen/version.h, xen/features.h).

abi! {
    abi_consts! { u32:
        XENVER_VERSION = 0;
        XENVER_EXTRAVERSION = 1;
        XENVER_COMPILE_INFO = 2;
        XENVER_CAPABILITIES = 3;
        XENVER_CHANGESET = 4;
        XENVER_PLATFORM_PARAMETERS = 5;
        XENVER_GET_FEATURES = 6;
        XENVER_PAGESIZE = 7;
        XENVER_GUEST_HANDLE = 8;
        XENVER_COMMANDLINE = 9;
        XENVER_BUILD_ID = 10;
        XEN_EXTRAVERSION_LEN = 16;
        XEN_CAPABILITIES_INFO_LEN = 0x400;
        XEN_CHANGESET_INFO_LEN = 64;
        XEN_COMMANDLINE_LEN = 1024 => "sizeof(xen_commandline_t)";
    }

    abi_consts! { u32:
        XENFEAT_WRITABLE_PAGE_TABLES = 0;
        XENFEAT_WRITABLE_DESCRIPTOR_TABLES = 1;
        XENFEAT_AUTO_TRANSLATED_PHYSMAP = 2;
        XENFEAT_SUPERVISOR_MODE_KERNEL = 3;
        XENFEAT_PAE_PGDIR_ABOVE_4GB = 4;
        XENFEAT_MMU_PT_UPDATE_PRESERVE_AD = 5;
        XENFEAT_HIGHMEM_ASSIST = 6;
        XENFEAT_GNTTAB_MAP_AVAIL_BITS = 7;
        XENFEAT_HVM_CALLBACK_VECTOR = 8;
        XENFEAT_HVM_SAFE_PVCLOCK = 9;
        XENFEAT_HVM_PIRQS = 10;
        XENFEAT_DOM0 = 11;
        XENFEAT_MEMORY_OP_VNODE_SUPPORTED = 13;
        XENFEAT_ARM_SMCCC_SUPPORTED = 14;
        XENFEAT_LINUX_RSDP_UNRESTRICTED = 15;
        XENFEAT_NOT_DIRECT_MAPPED = 16;
        XENFEAT_DIRECT_MAPPED = 17;
        XENFEAT_NR_SUBMAPS = 1;
    }

    abi_struct! {
        /// `XENVER_COMPILE_INFO`.
        pub struct XenCompileInfo = "struct xen_compile_info", 144 {
            pub compiler: [u8; 64],
            pub compile_by: [u8; 16],
            pub compile_domain: [u8; 32],
            pub compile_date: [u8; 32],
        }

        /// `XENVER_PLATFORM_PARAMETERS`.
        pub struct XenPlatformParameters = "struct xen_platform_parameters", 8 {
            pub virt_start: u64,
        }

        /// `XENVER_GET_FEATURES`.
        pub struct XenFeatureInfo = "struct xen_feature_info", 8 {
            pub submap_idx: u32,
            pub submap: u32,
        }

        /// The start of `XENVER_BUILD_ID`; the id's bytes follow.
        pub struct XenBuildId = "struct xen_build_id", 4 {
            pub len: u32,
        }
    }
}
