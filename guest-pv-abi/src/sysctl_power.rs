//! Sysctl arguments about power states, frequencies and cache allocation (xen/sysctl.h).

use crate::GuestHandle;

abi! {
    abi_consts! { u32:
        PMSTAT_CATEGORY_MASK = 0xf0;
        PMSTAT_PX = 0x10;
        PMSTAT_CX = 0x20;
        PMSTAT_GET_MAX_PX = 17;
        PMSTAT_GET_PXSTAT = 18;
        PMSTAT_RESET_PXSTAT = 19;
        PMSTAT_GET_MAX_CX = 33;
        PMSTAT_GET_CXSTAT = 34;
        PMSTAT_RESET_CXSTAT = 35;
        CPUFREQ_NAME_LEN = 16;
        SCALING_MAX_FREQ = 1;
        SCALING_MIN_FREQ = 2;
        SCALING_SETSPEED = 3;
        SAMPLING_RATE = 4;
        UP_THRESHOLD = 5;
        PM_PARA_CATEGORY_MASK = 0xf0;
        CPUFREQ_PARA = 0x10;
        GET_CPUFREQ_PARA = 17;
        SET_CPUFREQ_GOV = 18;
        SET_CPUFREQ_PARA = 19;
        GET_CPUFREQ_AVGFREQ = 20;
        XEN_SYSCTL_PM_OP_SET_SCHED_OPT_SMT = 0x21;
        XEN_SYSCTL_PM_OP_GET_MAX_CSTATE = 0x22;
        XEN_SYSCTL_PM_OP_SET_MAX_CSTATE = 0x23;
        XEN_SYSCTL_PM_OP_SET_VCPU_MIGRATION_DELAY = 0x24;
        XEN_SYSCTL_PM_OP_GET_VCPU_MIGRATION_DELAY = 0x25;
        XEN_SYSCTL_PM_OP_ENABLE_TURBO = 0x26;
        XEN_SYSCTL_PM_OP_DISABLE_TURBO = 0x27;
        XEN_SYSCTL_CX_UNLIMITED = 0xffff_ffff;
        XEN_SYSCTL_PSR_CMT_GET_TOTAL_RMID = 0;
        XEN_SYSCTL_PSR_CMT_GET_L3_UPSCALING_FACTOR = 1;
        XEN_SYSCTL_PSR_CMT_GET_L3_CACHE_SIZE = 2;
        XEN_SYSCTL_PSR_CMT_ENABLED = 3;
        XEN_SYSCTL_PSR_CMT_GET_L3_EVENT_MASK = 4;
        XEN_SYSCTL_PSR_GET_L3_INFO = 0;
        XEN_SYSCTL_PSR_GET_L2_INFO = 1;
        XEN_SYSCTL_PSR_GET_MBA_INFO = 2;
        XEN_SYSCTL_PSR_CAT_L3_CDP = 1 << 0;
        XEN_SYSCTL_PSR_MBA_LINEAR = 1 << 0;
    }

    abi_struct! {
        /// One frequency's statistics.
        pub struct PmPxVal = "struct pm_px_val", 24 {
            pub freq: u64,
            pub residency: u64,
            pub count: u64,
        }

        /// A CPU's frequencies.
        pub struct PmPxStat = "struct pm_px_stat", 24 {
            pub total: u8,
            pub usable: u8,
            pub last: u8,
            pub cur: u8,
            pub _pad: u32,
            pub trans_pt: GuestHandle<u64>,
            pub pt: GuestHandle<PmPxVal>,
        }

        /// A CPU's idle states.
        pub struct PmCxStat = "struct pm_cx_stat", 56 {
            pub nr: u32,
            pub last: u32,
            pub idle_time: u64,
            pub triggers: GuestHandle<u64>,
            pub residencies: GuestHandle<u64>,
            pub nr_pc: u32,
            pub nr_cc: u32,
            pub pc: GuestHandle<u64>,
            pub cc: GuestHandle<u64>,
        }

        /// `XEN_SYSCTL_GET_PMSTAT`. `u` is a `PmPxStat` or a `PmCxStat`.
        pub struct SysctlGetPmStat = "struct xen_sysctl_get_pmstat", 64 {
            pub kind as "type": u32,
            pub cpuid: u32,
            pub u: [u8; 56],
        }

        /// The userspace governor's parameter.
        pub struct PmUserspace = "struct xen_userspace", 4 {
            pub scaling_setspeed: u32,
        }

        /// The ondemand governor's parameters.
        pub struct PmOndemand = "struct xen_ondemand", 16 {
            pub sampling_rate_max: u32,
            pub sampling_rate_min: u32,
            pub sampling_rate: u32,
            pub up_threshold: u32,
        }

        /// `GET_CPUFREQ_PARA`. `u` is a `PmUserspace` or a `PmOndemand`.
        pub struct PmGetCpufreqPara = "struct xen_get_cpufreq_para", 120 {
            pub cpu_num: u32,
            pub freq_num: u32,
            pub gov_num: u32,
            pub _pad0: u32,
            pub affected_cpus: GuestHandle<u32>,
            pub scaling_available_frequencies: GuestHandle<u32>,
            pub scaling_available_governors: GuestHandle<u8>,
            pub scaling_driver: [u8; 16],
            pub cpuinfo_cur_freq: u32,
            pub cpuinfo_max_freq: u32,
            pub cpuinfo_min_freq: u32,
            pub scaling_cur_freq: u32,
            pub scaling_governor: [u8; 16],
            pub scaling_max_freq: u32,
            pub scaling_min_freq: u32,
            pub u: [u8; 16],
            pub turbo_enabled: i32,
            pub _pad1: u32,
        }

        /// `SET_CPUFREQ_GOV`.
        pub struct PmSetCpufreqGov = "struct xen_set_cpufreq_gov", 16 {
            pub scaling_governor: [u8; 16],
        }

        /// `SET_CPUFREQ_PARA`.
        pub struct PmSetCpufreqPara = "struct xen_set_cpufreq_para", 8 {
            pub ctrl_type: u32,
            pub ctrl_value: u32,
        }

        /// `XEN_SYSCTL_PM_OP`.
        pub struct SysctlPmOp = "struct xen_sysctl_pm_op", 128 {
            pub cmd: u32,
            pub cpuid: u32,
            pub u: [u8; 120],
        }

        /// `XEN_SYSCTL_PSR_CMT_OP`.
        pub struct SysctlPsrCmtOp = "struct xen_sysctl_psr_cmt_op", 16 {
            pub cmd: u32,
            pub flags: u32,
            pub u: [u8; 8],
        }

        /// `XEN_SYSCTL_PSR_ALLOC`.
        pub struct SysctlPsrAlloc = "struct xen_sysctl_psr_alloc", 20 {
            pub cmd: u32,
            pub target: u32,
            pub u: [u8; 12],
        }
    }
}
