//! Machine checks (xen/arch-x86/xen-mca.h): what dom0's mcelog driver asks.

use crate::GuestHandle;

abi! {
    abi_consts! { u32:
        HYPERVISOR_MCA = 48;
        XEN_MCA_INTERFACE_VERSION = 0x01ec_c003;
        VIRQ_MCA = 16;
        XEN_MC_NONURGENT = 0x0001;
        XEN_MC_URGENT = 0x0002;
        XEN_MC_ACK = 0x0004;
        XEN_MC_OK = 0x0;
        XEN_MC_FETCHFAILED = 0x1;
        XEN_MC_NODATA = 0x2;
        XEN_MC_NOMATCH = 0x4;
        XEN_MC_CANNOTHANDLE = 0x8;
        XEN_MC_NOTDELIVERED = 0x10;
        XEN_MC_VCPUID_INVALID = 0xffff;
        XEN_MC_FETCH = 1;
        XEN_MC_NOTIFYDOMAIN = 2;
        XEN_MC_PHYSCPUINFO = 3;
        XEN_MC_MSRINJECT = 4;
        XEN_MC_MCEINJECT = 5;
        XEN_MC_INJECT_V2 = 6;
        XEN_MC_INJECT_TYPE_MASK = 0x7;
        XEN_MC_INJECT_TYPE_MCE = 0x0;
        XEN_MC_INJECT_TYPE_CMCI = 0x1;
        XEN_MC_INJECT_TYPE_LMCE = 0x2;
        XEN_MC_INJECT_CPU_BROADCAST = 0x8;
        MC_FLAG_CORRECTABLE = 1 << 0;
        MC_FLAG_UNCORRECTABLE = 1 << 1;
        MC_FLAG_RECOVERABLE = 1 << 2;
        MC_FLAG_POLLED = 1 << 3;
        MC_FLAG_RESET = 1 << 4;
        MC_FLAG_CMCI = 1 << 5;
        MC_FLAG_MCE = 1 << 6;
        MC_TYPE_GLOBAL = 0;
        MC_TYPE_BANK = 1;
        MC_TYPE_EXTENDED = 2;
        MC_TYPE_RECOVERY = 3;
        MC_CAPS_STD_EDX = 0;
        MC_CAPS_AMD_EDX = 1;
        MC_CAPS_TM = 2;
        MC_CAPS_LINUX = 3;
        MC_CAPS_STD_ECX = 4;
        MC_CAPS_VIA = 5;
        MC_CAPS_AMD_ECX = 6;
    }

    abi_struct! {
        /// The argument of the mca hypercall. `u` holds the operation's own structure.
        pub struct Mc = "struct xen_mc", 152 {
            pub cmd: u32,
            pub interface_version: u32,
            pub u: [u8; 144],
        }

        /// `XEN_MC_FETCH`: the handle leads to a `McInfo`.
        pub struct McFetch = "struct xen_mc_fetch", 24 {
            pub flags: u32,
            pub _pad0: u32,
            pub fetch_id: u64,
            pub data: GuestHandle<McInfo>,
        }

        /// Telemetry: records, each with an `McinfoCommon` first.
        pub struct McInfo = "struct mc_info", 768 {
            pub mi_nentries: u32,
            pub flags: u32,
            pub mi_data: [u64; 95],
        }

        /// A record's kind and size.
        pub struct McinfoCommon = "struct mcinfo_common", 4 {
            pub kind as "type": u16,
            pub size: u16,
        }

        /// `XEN_MC_PHYSCPUINFO`: a null handle asks for the number only.
        pub struct McPhyscpuinfo = "struct xen_mc_physcpuinfo", 16 {
            pub ncpus: u32,
            pub _pad0: u32,
            pub info: GuestHandle<McLogicalCpu>,
        }

        /// A register of a machine check.
        pub struct McinfoMsr = "struct mcinfo_msr", 16 {
            pub reg: u64,
            pub value: u64,
        }

        /// A CPU as `XEN_MC_PHYSCPUINFO` tells of it.
        pub struct McLogicalCpu = "struct mcinfo_logical_cpu", 304 {
            pub mc_cpunr: u32,
            pub mc_chipid: u32,
            pub mc_coreid: u16,
            pub mc_threadid: u16,
            pub mc_apicid: u32,
            pub mc_clusterid: u32,
            pub mc_ncores: u32,
            pub mc_ncores_active: u32,
            pub mc_nthreads: u32,
            pub mc_cpuid_level: i32,
            pub mc_family: u32,
            pub mc_vendor: u32,
            pub mc_model: u32,
            pub mc_step: u32,
            pub mc_vendorid: [u8; 16],
            pub mc_brandid: [u8; 64],
            pub mc_cpu_caps: [u32; 7],
            pub mc_cache_size: u32,
            pub mc_cache_alignment: u32,
            pub mc_nmsrvals: i32,
            pub _pad: u32,
            pub mc_msrvalues: [McinfoMsr; 8],
        }
    }
}
