//! Performance counters of a domain (xen/pmu.h): numbers and argument.

abi! {
    abi_consts! { u32:
        XENPMU_MODE_GET = 0;
        XENPMU_MODE_SET = 1;
        XENPMU_FEATURE_GET = 2;
        XENPMU_FEATURE_SET = 3;
        XENPMU_INIT = 4;
        XENPMU_FINISH = 5;
        XENPMU_LVTPC_SET = 6;
        XENPMU_FLUSH = 7;
        XENPMU_VER_MAJ = 0;
        XENPMU_VER_MIN = 1;
        XENPMU_MODE_OFF = 0;
        XENPMU_MODE_SELF = 1 << 0;
        XENPMU_MODE_HV = 1 << 1;
        XENPMU_MODE_ALL = 1 << 2;
        XENPMU_FEATURE_INTEL_BTS = 1 << 0;
        XENPMU_FEATURE_IPC_ONLY = 1 << 1;
        XENPMU_FEATURE_ARCH_ONLY = 1 << 2;
    }

    abi_struct! {
        /// The argument of the xenpmu hypercall.
        pub struct PmuParams = "struct xen_pmu_params", 24 {
            pub version_maj as "version.maj": u32,
            pub version_min as "version.min": u32,
            pub val: u64,
            pub vcpu: u32,
            pub pad: u32,
        }
    }
}
