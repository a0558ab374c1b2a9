//! Domctl arguments about a domain's memory (xen/domctl.h).

use crate::{GuestHandle, Vmemrange};

abi! {
    abi_consts! { u32:
        XEN_DOMCTL_PFINFO_LTAB_SHIFT = 28;
        XEN_DOMCTL_PFINFO_NOTAB = 0;
        XEN_DOMCTL_PFINFO_L1TAB = 1 << 28;
        XEN_DOMCTL_PFINFO_L2TAB = 1 << 29;
        XEN_DOMCTL_PFINFO_L3TAB = 0x3000_0000;
        XEN_DOMCTL_PFINFO_L4TAB = 1 << 30;
        XEN_DOMCTL_PFINFO_LTABTYPE_MASK = 0x7000_0000;
        XEN_DOMCTL_PFINFO_LPINTAB = 1 << 31;
        XEN_DOMCTL_PFINFO_XTAB = 0xf000_0000;
        XEN_DOMCTL_PFINFO_XALLOC = 0xe000_0000;
        XEN_DOMCTL_PFINFO_BROKEN = 0xd000_0000;
        XEN_DOMCTL_PFINFO_LTAB_MASK = 0xf000_0000;
        XEN_DOMCTL_SHADOW_OP_OFF = 0;
        XEN_DOMCTL_SHADOW_OP_ENABLE = 32;
        XEN_DOMCTL_SHADOW_OP_CLEAN = 11;
        XEN_DOMCTL_SHADOW_OP_PEEK = 12;
        XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION = 30;
        XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION = 31;
        XEN_DOMCTL_SHADOW_OP_ENABLE_TEST = 1;
        XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY = 2;
        XEN_DOMCTL_SHADOW_ENABLE_REFCOUNT = 1 << 1;
        XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY = 1 << 2;
        XEN_DOMCTL_SHADOW_ENABLE_TRANSLATE = 1 << 3;
        XEN_DOMCTL_SHADOW_ENABLE_EXTERNAL = 1 << 4;
        XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL = 1 << 0;
        XEN_DOMCTL_MEM_CACHEATTR_UC = 0;
        XEN_DOMCTL_MEM_CACHEATTR_WC = 1;
        XEN_DOMCTL_MEM_CACHEATTR_WT = 4;
        XEN_DOMCTL_MEM_CACHEATTR_WP = 5;
        XEN_DOMCTL_MEM_CACHEATTR_WB = 6;
        XEN_DOMCTL_MEM_CACHEATTR_UCM = 7;
        XEN_DOMCTL_DELETE_MEM_CACHEATTR = 0xffff_ffff;
        XEN_DOMCTL_MEM_SHARING_CONTROL = 0;
        XEN_VM_EVENT_ENABLE = 0;
        XEN_VM_EVENT_DISABLE = 1;
        XEN_VM_EVENT_RESUME = 2;
        XEN_VM_EVENT_GET_VERSION = 3;
        XEN_DOMCTL_VM_EVENT_OP_PAGING = 1;
        XEN_DOMCTL_VM_EVENT_OP_MONITOR = 2;
        XEN_DOMCTL_VM_EVENT_OP_SHARING = 3;
        XEN_DOMCTL_MONITOR_OP_ENABLE = 0;
        XEN_DOMCTL_MONITOR_OP_DISABLE = 1;
        XEN_DOMCTL_MONITOR_OP_GET_CAPABILITIES = 2;
        XEN_DOMCTL_MONITOR_OP_EMULATE_EACH_REP = 3;
        XEN_DOMCTL_MONITOR_OP_CONTROL_REGISTERS = 4;
        XEN_DOMCTL_MONITOR_EVENT_WRITE_CTRLREG = 0;
        XEN_DOMCTL_MONITOR_EVENT_MOV_TO_MSR = 1;
        XEN_DOMCTL_MONITOR_EVENT_SINGLESTEP = 2;
        XEN_DOMCTL_MONITOR_EVENT_SOFTWARE_BREAKPOINT = 3;
        XEN_DOMCTL_MONITOR_EVENT_GUEST_REQUEST = 4;
        XEN_DOMCTL_MONITOR_EVENT_DEBUG_EXCEPTION = 5;
        XEN_DOMCTL_MONITOR_EVENT_CPUID = 6;
        XEN_DOMCTL_MONITOR_EVENT_PRIVILEGED_CALL = 7;
        XEN_DOMCTL_MONITOR_EVENT_INTERRUPT = 8;
        XEN_DOMCTL_MONITOR_EVENT_DESC_ACCESS = 9;
        XEN_DOMCTL_MONITOR_EVENT_EMUL_UNIMPLEMENTED = 10;
        XEN_DOMCTL_MONITOR_EVENT_INGUEST_PAGEFAULT = 11;
        XEN_DOMCTL_MONITOR_EVENT_VMEXIT = 12;
    }

    abi_struct! {
        /// `XEN_DOMCTL_GETPAGEFRAMEINFO3`: page types, in place of the frame numbers given.
        pub struct DomctlGetPageFrameInfo3 = "struct xen_domctl_getpageframeinfo3", 16 {
            pub num: u64,
            pub array: GuestHandle<u64>,
        }

        /// Counters that `XEN_DOMCTL_SHADOW_OP` answers.
        pub struct DomctlShadowOpStats = "struct xen_domctl_shadow_op_stats", 8 {
            pub fault_count: u32,
            pub dirty_count: u32,
        }

        /// `XEN_DOMCTL_SHADOW_OP`: log-dirty mode and its bitmap.
        pub struct DomctlShadowOp = "struct xen_domctl_shadow_op", 40 {
            pub op: u32,
            pub mode: u32,
            pub mb: u32,
            pub _pad: u32,
            pub dirty_bitmap: GuestHandle<u8>,
            pub pages: u64,
            pub stats: DomctlShadowOpStats,
        }

        /// `XEN_DOMCTL_GET_PAGING_MEMPOOL_SIZE` and `XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE`, in bytes.
        pub struct DomctlPagingMempool = "struct xen_domctl_paging_mempool", 8 {
            pub size: u64,
        }

        /// `XEN_DOMCTL_CACHEFLUSH`.
        pub struct DomctlCacheFlush = "struct xen_domctl_cacheflush", 16 {
            pub start_pfn: u64,
            pub nr_pfns: u64,
        }

        /// `XEN_DOMCTL_SET_BROKEN_PAGE_P2M`.
        pub struct DomctlSetBrokenPageP2m = "struct xen_domctl_set_broken_page_p2m", 8 {
            pub pfn: u64,
        }

        /// `XEN_DOMCTL_SET_ACCESS_REQUIRED`.
        pub struct DomctlSetAccessRequired = "struct xen_domctl_set_access_required", 1 {
            pub access_required: u8,
        }

        /// `XEN_DOMCTL_AUDIT_P2M`.
        pub struct DomctlAuditP2m = "struct xen_domctl_audit_p2m", 24 {
            pub orphans: u64,
            pub m2p_bad: u64,
            pub p2m_bad: u64,
        }

        /// `XEN_DOMCTL_SETVNUMAINFO`.
        pub struct DomctlVnuma = "struct xen_domctl_vnuma", 48 {
            pub nr_vnodes: u32,
            pub nr_vmemranges: u32,
            pub nr_vcpus: u32,
            pub pad: u32,
            pub vdistance: GuestHandle<u32>,
            pub vcpu_to_vnode: GuestHandle<u32>,
            pub vnode_to_pnode: GuestHandle<u32>,
            pub vmemrange: GuestHandle<Vmemrange>,
        }

        /// `XEN_DOMCTL_VM_EVENT_OP`.
        pub struct DomctlVmEventOp = "struct xen_domctl_vm_event_op", 12 {
            pub op: u32,
            pub mode: u32,
            pub u: [u8; 4],
        }

        /// `XEN_DOMCTL_MEM_SHARING_OP`.
        pub struct DomctlMemSharingOp = "struct xen_domctl_mem_sharing_op", 2 {
            pub op: u8,
            pub u: [u8; 1],
        }

        /// `XEN_DOMCTL_MONITOR_OP`.
        pub struct DomctlMonitorOp = "struct xen_domctl_monitor_op", 24 {
            pub op: u32,
            pub event: u32,
            pub u: [u8; 16],
        }
    }
}
