//! Memory operations (xen/memory.h).

use crate::{GuestHandle, PhysdevPciDevice};

abi! {
    abi_consts! { u32:
        XENMEM_INCREASE_RESERVATION = 0;
        XENMEM_DECREASE_RESERVATION = 1;
        XENMEM_POPULATE_PHYSMAP = 6;
        XENMEM_EXCHANGE = 11;
        XENMEM_MAXIMUM_RAM_PAGE = 2;
        XENMEM_CURRENT_RESERVATION = 3;
        XENMEM_MAXIMUM_RESERVATION = 4;
        XENMEM_MAXIMUM_GPFN = 14;
        XENMEM_MACHPHYS_MFN_LIST = 5;
        XENMEM_MACHPHYS_COMPAT_MFN_LIST = 25;
        XENMEM_MACHPHYS_MAPPING = 12;
        XENMEM_ADD_TO_PHYSMAP = 7;
        XENMEM_ADD_TO_PHYSMAP_BATCH = 23;
        XENMEM_REMOVE_FROM_PHYSMAP = 15;
        XENMEM_MEMORY_MAP = 9;
        XENMEM_MACHINE_MEMORY_MAP = 10;
        XENMEM_SET_MEMORY_MAP = 13;
        XENMEM_SET_POD_TARGET = 16;
        XENMEM_GET_POD_TARGET = 17;
        XENMEM_GET_SHARING_FREED_PAGES = 18;
        XENMEM_GET_SHARING_SHARED_PAGES = 19;
        XENMEM_PAGING_OP = 20;
        XENMEM_PAGING_OP_NOMINATE = 0;
        XENMEM_PAGING_OP_EVICT = 1;
        XENMEM_PAGING_OP_PREP = 2;
        XENMEM_SHARING_OP = 22;
        XENMEM_SHARING_OP_NOMINATE_GFN = 0;
        XENMEM_SHARING_OP_NOMINATE_GREF = 1;
        XENMEM_SHARING_OP_SHARE = 2;
        XENMEM_SHARING_OP_DEBUG_GFN = 3;
        XENMEM_SHARING_OP_DEBUG_MFN = 4;
        XENMEM_SHARING_OP_DEBUG_GREF = 5;
        XENMEM_SHARING_OP_ADD_PHYSMAP = 6;
        XENMEM_SHARING_OP_AUDIT = 7;
        XENMEM_SHARING_OP_RANGE_SHARE = 8;
        XENMEM_SHARING_OP_FORK = 9;
        XENMEM_SHARING_OP_FORK_RESET = 10;
        XENMEM_FORK_WITH_IOMMU_ALLOWED = 1 << 0;
        XENMEM_FORK_BLOCK_INTERRUPTS = 1 << 1;
        XENMEM_FORK_RESET_STATE = 1 << 2;
        XENMEM_FORK_RESET_MEMORY = 1 << 3;
        XENMEM_CLAIM_PAGES = 24;
        XENMEM_RESERVED_DEVICE_MEMORY_MAP = 27;
        XENMEM_RDM_ALL = 1;
        XENMEM_ACQUIRE_RESOURCE = 28;
        XENMEM_RESOURCE_IOREQ_SERVER = 0;
        XENMEM_RESOURCE_GRANT_TABLE = 1;
        XENMEM_RESOURCE_VMTRACE_BUF = 2;
        XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED = 0;
        XENMEM_RESOURCE_GRANT_TABLE_ID_STATUS = 1;
        XENMEM_RESOURCE_IOREQ_SERVER_FRAME_BUFIOREQ = 0;
        XENMEM_GET_VNUMAINFO = 26;
        XENMEM_ACCESS_OP = 21;
        XENMEM_ACCESS_OP_SET_ACCESS = 0;
        XENMEM_ACCESS_OP_GET_ACCESS = 1;
        XENMEM_ACCESS_OP_SET_ACCESS_MULTI = 4;
        XENMEM_ACCESS_N = 0;
        XENMEM_ACCESS_R = 1;
        XENMEM_ACCESS_W = 2;
        XENMEM_ACCESS_RW = 3;
        XENMEM_ACCESS_X = 4;
        XENMEM_ACCESS_RX = 5;
        XENMEM_ACCESS_WX = 6;
        XENMEM_ACCESS_RWX = 7;
        XENMEM_ACCESS_RX2RW = 8;
        XENMEM_ACCESS_N2RWX = 9;
        XENMEM_ACCESS_DEFAULT = 10;

        XENMEMF_POPULATE_ON_DEMAND = 1 << 16;
        XENMEMF_EXACT_NODE_REQUEST = 1 << 17;
        XENMEMF_VNODE = 1 << 18;
        XENMAPSPACE_SHARED_INFO = 0;
        XENMAPSPACE_GRANT_TABLE = 1;
        XENMAPSPACE_GMFN = 2;
        XENMAPSPACE_GMFN_RANGE = 3;
        XENMAPSPACE_GMFN_FOREIGN = 4;
        XENMAPSPACE_DEV_MMIO = 5;
        XENMAPIDX_GRANT_TABLE_STATUS = 0x8000_0000;
    }

    abi_consts! { i32:
        XENMEM_SHARING_OP_S_HANDLE_INVALID = -10;
        XENMEM_SHARING_OP_C_HANDLE_INVALID = -9;
    }

    abi_struct! {
        /// `XENMEM_INCREASE_RESERVATION`, `..._DECREASE_RESERVATION`, `..._POPULATE_PHYSMAP` and
        /// `..._CLAIM_PAGES`.
        pub struct MemoryReservation = "struct xen_memory_reservation", 32 {
            pub extent_start: GuestHandle<u64>,
            pub nr_extents: u64,
            pub extent_order: u32,
            pub mem_flags: u32,
            pub domid: u16,
            pub _pad: [u16; 3],
        }

        /// `XENMEM_EXCHANGE`.
        pub struct MemoryExchange = "struct xen_memory_exchange", 72 {
            pub input as "in": MemoryReservation,
            pub output as "out": MemoryReservation,
            pub nr_exchanged: u64,
        }

        /// `XENMEM_CURRENT_RESERVATION`, `..._MAXIMUM_RESERVATION` and `..._MAXIMUM_GPFN`.
        pub struct MemoryDomain = "struct xen_memory_domain", 2 {
            pub domid: u16,
        }

        /// `XENMEM_MACHPHYS_MFN_LIST`.
        pub struct MachphysMfnList = "struct xen_machphys_mfn_list", 24 {
            pub max_extents: u32,
            pub _pad0: u32,
            pub extent_start: GuestHandle<u64>,
            pub nr_extents: u32,
            pub _pad1: u32,
        }

        /// `XENMEM_MACHPHYS_MAPPING`.
        pub struct MachphysMapping = "struct xen_machphys_mapping", 24 {
            pub v_start: u64,
            pub v_end: u64,
            pub max_mfn: u64,
        }

        /// `XENMEM_ADD_TO_PHYSMAP`.
        pub struct AddToPhysmap = "struct xen_add_to_physmap", 24 {
            pub domid: u16,
            pub size: u16,
            pub space: u32,
            pub idx: u64,
            pub gpfn: u64,
        }

        /// `XENMEM_ADD_TO_PHYSMAP_BATCH`.
        pub struct AddToPhysmapBatch = "struct xen_add_to_physmap_batch", 32 {
            pub domid: u16,
            pub space: u16,
            pub size: u16,
            pub foreign_domid as "u.foreign_domid": u16,
            pub idxs: GuestHandle<u64>,
            pub gpfns: GuestHandle<u64>,
            pub errs: GuestHandle<i32>,
        }

        /// `XENMEM_REMOVE_FROM_PHYSMAP`.
        pub struct RemoveFromPhysmap = "struct xen_remove_from_physmap", 16 {
            pub domid: u16,
            pub _pad: [u16; 3],
            pub gpfn: u64,
        }

        /// `XENMEM_MEMORY_MAP` and `XENMEM_MACHINE_MEMORY_MAP`.
        pub struct MemoryMap = "struct xen_memory_map", 16 {
            pub nr_entries: u32,
            pub _pad: u32,
            pub buffer: GuestHandle<E820Entry>,
        }

        /// `XENMEM_SET_MEMORY_MAP`.
        pub struct ForeignMemoryMap = "struct xen_foreign_memory_map", 24 {
            pub domid: u16,
            pub _pad0: [u16; 3],
            pub nr_entries as "map.nr_entries": u32,
            pub _pad1: u32,
            pub buffer as "map.buffer": GuestHandle<E820Entry>,
        }

        /// `XENMEM_SET_POD_TARGET` and `XENMEM_GET_POD_TARGET`.
        pub struct PodTarget = "struct xen_pod_target", 40 {
            pub target_pages: u64,
            pub tot_pages: u64,
            pub pod_cache_pages: u64,
            pub pod_entries: u64,
            pub domid: u16,
            pub _pad: [u16; 3],
        }

        /// `XENMEM_PAGING_OP`.
        pub struct MemPagingOp = "struct xen_mem_paging_op", 24 {
            pub op: u8,
            pub _pad0: u8,
            pub domain: u16,
            pub _pad1: u32,
            pub buffer: GuestHandle<u8>,
            pub gfn: u64,
        }

        /// `XENMEM_ACCESS_OP`.
        pub struct MemAccessOp = "struct xen_mem_access_op", 32 {
            pub op: u8,
            pub access: u8,
            pub domid: u16,
            pub nr: u32,
            pub pfn: u64,
            pub pfn_list: GuestHandle<u64>,
            pub access_list: GuestHandle<u8>,
        }

        /// An entry of `ReservedDeviceMemoryMap`.
        pub struct ReservedDeviceMemory = "struct xen_reserved_device_memory", 16 {
            pub start_pfn: u64,
            pub nr_pages: u64,
        }

        /// `XENMEM_RESERVED_DEVICE_MEMORY_MAP`.
        pub struct ReservedDeviceMemoryMap = "struct xen_reserved_device_memory_map", 24 {
            pub flags: u32,
            pub nr_entries: u32,
            pub buffer: GuestHandle<ReservedDeviceMemory>,
            pub pci as "dev.pci": PhysdevPciDevice,
            pub _pad: u32,
        }

        /// `XENMEM_ACQUIRE_RESOURCE`.
        pub struct AcquireResource = "struct xen_mem_acquire_resource", 32 {
            pub domid: u16,
            pub kind as "type": u16,
            pub id: u32,
            pub nr_frames: u32,
            pub pad: u32,
            pub frame: u64,
            pub frame_list: GuestHandle<u64>,
        }

        /// A range of a guest's memory on one of its nodes.
        pub struct Vmemrange = "struct xen_vmemrange", 24 {
            pub start: u64,
            pub end: u64,
            pub flags: u32,
            pub nid: u32,
        }

        /// `XENMEM_GET_VNUMAINFO`.
        pub struct VnumaTopologyInfo = "struct xen_vnuma_topology_info", 40 {
            pub domid: u16,
            pub pad: u16,
            pub nr_vnodes: u32,
            pub nr_vcpus: u32,
            pub nr_vmemranges: u32,
            pub vdistance: GuestHandle<u32>,
            pub vcpu_to_vnode: GuestHandle<u32>,
            pub vmemrange: GuestHandle<Vmemrange>,
        }
    }

    abi_packed! {
        /// A memory map's entry as the BIOS made it, of 20 bytes (xenctrl.h).
        pub struct E820Entry = "struct e820entry", 20 {
            pub addr: u64,
            pub size: u64,
            pub kind as "type": u32,
        }
    }

    abi_consts! { u32:
        E820_RAM = 1;
        E820_RESERVED = 2;
        E820_ACPI = 3;
        E820_NVS = 4;
        E820_UNUSABLE = 5;
    }
}
