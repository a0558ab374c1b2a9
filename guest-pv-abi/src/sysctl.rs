//! Control of the machine by the toolstack (xen/sysctl.h, interface version 0x15): numbers,
//! envelope, and what concerns the hypervisor as a whole. CPUs and memory are in `sysctl_machine`,
//! schedulers and pools in `sysctl_sched`, performance and power in `sysctl_power`, live patching
//! in `livepatch`.

use bytemuck::Pod;

use crate::{BitmapHandle, CpuidLeaf, DomctlGetDomainInfo, GuestHandle, MsrEntry, UnionBytes};

abi! {
    abi_consts! { u32:
        SYSCTL_INTERFACE_VERSION = 0x15 => "XEN_SYSCTL_INTERFACE_VERSION";

        XEN_SYSCTL_READCONSOLE = 1;
        XEN_SYSCTL_TBUF_OP = 2;
        XEN_SYSCTL_PHYSINFO = 3;
        XEN_SYSCTL_SCHED_ID = 4;
        XEN_SYSCTL_PERFC_OP = 5;
        XEN_SYSCTL_GETDOMAININFOLIST = 6;
        XEN_SYSCTL_DEBUG_KEYS = 7;
        XEN_SYSCTL_GETCPUINFO = 8;
        XEN_SYSCTL_AVAILHEAP = 9;
        XEN_SYSCTL_GET_PMSTAT = 10;
        XEN_SYSCTL_CPU_HOTPLUG = 11;
        XEN_SYSCTL_PM_OP = 12;
        XEN_SYSCTL_PAGE_OFFLINE_OP = 14;
        XEN_SYSCTL_LOCKPROF_OP = 15;
        XEN_SYSCTL_CPUTOPOINFO = 16;
        XEN_SYSCTL_NUMAINFO = 17;
        XEN_SYSCTL_CPUPOOL_OP = 18;
        XEN_SYSCTL_SCHEDULER_OP = 19;
        XEN_SYSCTL_COVERAGE_OP = 20;
        XEN_SYSCTL_PSR_CMT_OP = 21;
        XEN_SYSCTL_PCITOPOINFO = 22;
        XEN_SYSCTL_PSR_ALLOC = 23;
        XEN_SYSCTL_GET_CPU_LEVELLING_CAPS = 25;
        XEN_SYSCTL_GET_CPU_FEATURESET = 26;
        XEN_SYSCTL_LIVEPATCH_OP = 27;
        XEN_SYSCTL_GET_CPU_POLICY = 29;

        XEN_SYSCTL_TBUFOP_GET_INFO = 0;
        XEN_SYSCTL_TBUFOP_SET_CPU_MASK = 1;
        XEN_SYSCTL_TBUFOP_SET_EVT_MASK = 2;
        XEN_SYSCTL_TBUFOP_SET_SIZE = 3;
        XEN_SYSCTL_TBUFOP_ENABLE = 4;
        XEN_SYSCTL_TBUFOP_DISABLE = 5;
        XEN_SYSCTL_PERFCOP_RESET = 1;
        XEN_SYSCTL_PERFCOP_QUERY = 2;
        XEN_SYSCTL_LOCKPROF_RESET = 1;
        XEN_SYSCTL_LOCKPROF_QUERY = 2;
        LOCKPROF_TYPE_GLOBAL = 0;
        LOCKPROF_TYPE_PERDOM = 1;
        LOCKPROF_TYPE_N = 2;
        XEN_GCOV_FORMAT_MAGIC = 0x5843_4f56;
        XEN_SYSCTL_COVERAGE_GET_SIZE = 0;
        XEN_SYSCTL_COVERAGE_READ = 1;
        XEN_SYSCTL_COVERAGE_RESET = 2;
        XEN_SYSCTL_CPU_POLICY_RAW = 0;
        XEN_SYSCTL_CPU_POLICY_HOST = 1;
        XEN_SYSCTL_CPU_POLICY_PV_MAX = 2;
        XEN_SYSCTL_CPU_POLICY_HVM_MAX = 3;
        XEN_SYSCTL_CPU_POLICY_PV_DEFAULT = 4;
        XEN_SYSCTL_CPU_POLICY_HVM_DEFAULT = 5;
    }

    abi_struct! {
        /// The argument of the sysctl hypercall. `u` holds the operation's own structure.
        pub struct Sysctl = "struct xen_sysctl", 136 {
            pub cmd: u32,
            pub interface_version: u32,
            pub u: [u8; 128],
        }

        /// `XEN_SYSCTL_READCONSOLE`.
        pub struct SysctlReadConsole = "struct xen_sysctl_readconsole", 24 {
            pub clear: u8,
            pub incremental: u8,
            pub pad0: u8,
            pub pad1: u8,
            pub index: u32,
            pub buffer: GuestHandle<u8>,
            pub count: u32,
            pub _pad2: u32,
        }

        /// `XEN_SYSCTL_TBUF_OP`.
        pub struct SysctlTbufOp = "struct xen_sysctl_tbuf_op", 48 {
            pub cmd: u32,
            pub _pad0: u32,
            pub cpu_mask: BitmapHandle,
            pub evt_mask: u32,
            pub _pad1: u32,
            pub buffer_mfn: u64,
            pub size: u32,
            pub _pad2: u32,
        }

        /// A performance counter's name.
        pub struct SysctlPerfcDesc = "struct xen_sysctl_perfc_desc", 84 {
            pub name: [u8; 80],
            pub nr_vals: u32,
        }

        /// `XEN_SYSCTL_PERFC_OP`.
        pub struct SysctlPerfcOp = "struct xen_sysctl_perfc_op", 32 {
            pub cmd: u32,
            pub nr_counters: u32,
            pub nr_vals: u32,
            pub _pad: u32,
            pub desc: GuestHandle<SysctlPerfcDesc>,
            pub val: GuestHandle<u32>,
        }

        /// `XEN_SYSCTL_GETDOMAININFOLIST`.
        pub struct SysctlGetDomainInfoList = "struct xen_sysctl_getdomaininfolist", 24 {
            pub first_domain: u16,
            pub _pad0: u16,
            pub max_domains: u32,
            pub buffer: GuestHandle<DomctlGetDomainInfo>,
            pub num_domains: u32,
            pub _pad1: u32,
        }

        /// `XEN_SYSCTL_DEBUG_KEYS`.
        pub struct SysctlDebugKeys = "struct xen_sysctl_debug_keys", 16 {
            pub keys: GuestHandle<u8>,
            pub nr_keys: u32,
            pub _pad: u32,
        }

        /// A lock's profile.
        pub struct SysctlLockprofData = "struct xen_sysctl_lockprof_data", 80 {
            pub name: [u8; 40],
            pub kind as "type": i32,
            pub idx: i32,
            pub lock_cnt: u64,
            pub block_cnt: u64,
            pub lock_time: u64,
            pub block_time: u64,
        }

        /// `XEN_SYSCTL_LOCKPROF_OP`.
        pub struct SysctlLockprofOp = "struct xen_sysctl_lockprof_op", 32 {
            pub cmd: u32,
            pub max_elem: u32,
            pub nr_elem: u32,
            pub _pad: u32,
            pub time: u64,
            pub data: GuestHandle<SysctlLockprofData>,
        }

        /// `XEN_SYSCTL_COVERAGE_OP`.
        pub struct SysctlCoverageOp = "struct xen_sysctl_coverage_op", 16 {
            pub cmd: u32,
            pub size: u32,
            pub buffer: GuestHandle<u8>,
        }

        /// `XEN_SYSCTL_GET_CPU_POLICY`.
        pub struct SysctlCpuPolicy = "struct xen_sysctl_cpu_policy", 32 {
            pub index: u32,
            pub nr_leaves: u32,
            pub nr_msrs: u32,
            pub _rsvd: u32,
            pub leaves: GuestHandle<CpuidLeaf>,
            pub msrs: GuestHandle<MsrEntry>,
        }
    }
}

impl Sysctl {
    /// An operation without an argument (so far).
    pub const fn new(cmd: u32) -> Self {
        Self {
            cmd,
            interface_version: SYSCTL_INTERFACE_VERSION,
            u: [0; 128],
        }
    }

    /// An operation with its argument.
    pub fn with<T: Pod>(cmd: u32, argument: &T) -> Self {
        Self {
            u: UnionBytes::holding(argument),
            ..Self::new(cmd)
        }
    }
}
