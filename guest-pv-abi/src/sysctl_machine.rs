//! Sysctl arguments about CPUs, memory and topology (xen/sysctl.h).

use crate::{GuestHandle, PhysdevPciDevice};

abi! {
    abi_consts! { u32:
        XEN_SYSCTL_PHYSCAP_HVM = 1 << 0;
        XEN_SYSCTL_PHYSCAP_PV = 1 << 1;
        XEN_SYSCTL_PHYSCAP_DIRECTIO = 1 << 2;
        XEN_SYSCTL_PHYSCAP_HAP = 1 << 3;
        XEN_SYSCTL_PHYSCAP_SHADOW = 1 << 4;
        XEN_SYSCTL_PHYSCAP_IOMMU_HAP_PT_SHARE = 1 << 5;
        XEN_SYSCTL_PHYSCAP_VMTRACE = 1 << 6;
        XEN_SYSCTL_PHYSCAP_VPMU = 1 << 7;
        XEN_SYSCTL_PHYSCAP_GNTTAB_V1 = 1 << 8;
        XEN_SYSCTL_PHYSCAP_GNTTAB_V2 = 1 << 9;
        XEN_SYSCTL_PHYSCAP_MAX = 0x200;
        XEN_SYSCTL_CPU_HOTPLUG_ONLINE = 0;
        XEN_SYSCTL_CPU_HOTPLUG_OFFLINE = 1;
        XEN_SYSCTL_CPU_HOTPLUG_SMT_ENABLE = 2;
        XEN_SYSCTL_CPU_HOTPLUG_SMT_DISABLE = 3;
        XEN_INVALID_CORE_ID = 0xffff_ffff;
        XEN_INVALID_SOCKET_ID = 0xffff_ffff;
        XEN_INVALID_NODE_ID = 0xffff_ffff;
        XEN_INVALID_MEM_SZ = 0xffff_ffff;
        XEN_INVALID_NODE_DIST = 0xffff_ffff;
        XEN_INVALID_DEV = 0xffff_fffe;
        SYSCTL_PAGE_OFFLINE = 1;
        SYSCTL_PAGE_ONLINE = 2;
        SYSCTL_QUERY_PAGE_OFFLINE = 3;
        PG_OFFLINE_STATUS_MASK = 0xff;
        PG_OFFLINE_INVALID = 1 << 0;
        PG_OFFLINE_OFFLINED = 1 << 1;
        PG_OFFLINE_PENDING = 1 << 2;
        PG_OFFLINE_FAILED = 1 << 3;
        PG_OFFLINE_AGAIN = 1 << 4;
        PG_ONLINE_FAILED = 8;
        PG_ONLINE_ONLINED = 2;
        PG_OFFLINE_STATUS_OFFLINED = 1 << 1;
        PG_OFFLINE_STATUS_ONLINE = 1 << 2;
        PG_OFFLINE_STATUS_OFFLINE_PENDING = 1 << 3;
        PG_OFFLINE_STATUS_BROKEN = 1 << 4;
        PG_OFFLINE_MISC_MASK = 0xff0;
        PG_OFFLINE_XENPAGE = 1 << 8;
        PG_OFFLINE_DOM0PAGE = 1 << 9;
        PG_OFFLINE_ANONYMOUS = 1 << 10;
        PG_OFFLINE_NOT_CONV_RAM = 1 << 11;
        PG_OFFLINE_OWNED = 1 << 12;
        PG_OFFLINE_BROKEN = 1 << 13;
        PG_ONLINE_BROKEN = 0x2000;
        PG_OFFLINE_OWNER_SHIFT = 16;
        XEN_SYSCTL_CPU_LEVELCAP_FAULTING = 1 << 0;
        XEN_SYSCTL_CPU_LEVELCAP_ECX = 1 << 1;
        XEN_SYSCTL_CPU_LEVELCAP_EDX = 1 << 2;
        XEN_SYSCTL_CPU_LEVELCAP_EXTD_ECX = 1 << 3;
        XEN_SYSCTL_CPU_LEVELCAP_EXTD_EDX = 1 << 4;
        XEN_SYSCTL_CPU_LEVELCAP_XSAVE_EAX = 1 << 5;
        XEN_SYSCTL_CPU_LEVELCAP_THERMAL_ECX = 1 << 6;
        XEN_SYSCTL_CPU_LEVELCAP_L7S0_EAX = 1 << 7;
        XEN_SYSCTL_CPU_LEVELCAP_L7S0_EBX = 1 << 8;
        XEN_SYSCTL_CPU_FEATURESET_RAW = 0;
        XEN_SYSCTL_CPU_FEATURESET_HOST = 1;
        XEN_SYSCTL_CPU_FEATURESET_PV = 2;
        XEN_SYSCTL_CPU_FEATURESET_HVM = 3;
        XEN_SYSCTL_CPU_FEATURESET_PV_MAX = 4;
        XEN_SYSCTL_CPU_FEATURESET_HVM_MAX = 5;
    }

    abi_struct! {
        /// `XEN_SYSCTL_PHYSINFO`.
        pub struct SysctlPhysInfo = "struct xen_sysctl_physinfo", 112 {
            pub threads_per_core: u32,
            pub cores_per_socket: u32,
            pub nr_cpus: u32,
            pub max_cpu_id: u32,
            pub nr_nodes: u32,
            pub max_node_id: u32,
            pub cpu_khz: u32,
            pub capabilities: u32,
            pub arch_capabilities: u32,
            pub pad: u32,
            pub total_pages: u64,
            pub free_pages: u64,
            pub scrub_pages: u64,
            pub outstanding_pages: u64,
            pub max_mfn: u64,
            pub hw_cap: [u32; 8],
        }

        /// An entry of `SysctlGetCpuInfo`: nanoseconds idle.
        pub struct SysctlCpuInfo = "struct xen_sysctl_cpuinfo", 8 {
            pub idletime: u64,
        }

        /// `XEN_SYSCTL_GETCPUINFO`.
        pub struct SysctlGetCpuInfo = "struct xen_sysctl_getcpuinfo", 24 {
            pub max_cpus: u32,
            pub _pad0: u32,
            pub info: GuestHandle<SysctlCpuInfo>,
            pub nr_cpus: u32,
            pub _pad1: u32,
        }

        /// `XEN_SYSCTL_AVAILHEAP`.
        pub struct SysctlAvailHeap = "struct xen_sysctl_availheap", 24 {
            pub min_bitwidth: u32,
            pub max_bitwidth: u32,
            pub node: i32,
            pub _pad: u32,
            pub avail_bytes: u64,
        }

        /// `XEN_SYSCTL_CPU_HOTPLUG`.
        pub struct SysctlCpuHotplug = "struct xen_sysctl_cpu_hotplug", 8 {
            pub cpu: u32,
            pub op: u32,
        }

        /// `XEN_SYSCTL_PAGE_OFFLINE_OP`.
        pub struct SysctlPageOfflineOp = "struct xen_sysctl_page_offline_op", 24 {
            pub cmd: u32,
            pub start: u32,
            pub end: u32,
            pub _pad: u32,
            pub status: GuestHandle<u32>,
        }

        /// Where a CPU stands.
        pub struct SysctlCpuTopo = "struct xen_sysctl_cputopo", 12 {
            pub core: u32,
            pub socket: u32,
            pub node: u32,
        }

        /// `XEN_SYSCTL_CPUTOPOINFO`.
        pub struct SysctlCpuTopoInfo = "struct xen_sysctl_cputopoinfo", 16 {
            pub num_cpus: u32,
            pub _pad: u32,
            pub cputopo: GuestHandle<SysctlCpuTopo>,
        }

        /// A node's memory, in bytes.
        pub struct SysctlMemInfo = "struct xen_sysctl_meminfo", 16 {
            pub memsize: u64,
            pub memfree: u64,
        }

        /// `XEN_SYSCTL_NUMAINFO`.
        pub struct SysctlNumaInfo = "struct xen_sysctl_numainfo", 24 {
            pub num_nodes: u32,
            pub _pad: u32,
            pub meminfo: GuestHandle<SysctlMemInfo>,
            pub distance: GuestHandle<u32>,
        }

        /// `XEN_SYSCTL_PCITOPOINFO`.
        pub struct SysctlPciTopoInfo = "struct xen_sysctl_pcitopoinfo", 24 {
            pub num_devs: u32,
            pub _pad: u32,
            pub devs: GuestHandle<PhysdevPciDevice>,
            pub nodes: GuestHandle<u32>,
        }

        /// `XEN_SYSCTL_GET_CPU_LEVELLING_CAPS`.
        pub struct SysctlCpuLevellingCaps = "struct xen_sysctl_cpu_levelling_caps", 4 {
            pub caps: u32,
        }

        /// `XEN_SYSCTL_GET_CPU_FEATURESET`.
        pub struct SysctlCpuFeatureset = "struct xen_sysctl_cpu_featureset", 16 {
            pub index: u32,
            pub nr_features: u32,
            pub features: GuestHandle<u32>,
        }
    }
}
