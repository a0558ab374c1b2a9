//! Sysctl arguments about schedulers and CPU pools (xen/sysctl.h).

use crate::{BitmapHandle, GuestHandle};

abi! {
    abi_consts! { u32:
        XEN_SYSCTL_CPUPOOL_OP_CREATE = 1;
        XEN_SYSCTL_CPUPOOL_OP_DESTROY = 2;
        XEN_SYSCTL_CPUPOOL_OP_INFO = 3;
        XEN_SYSCTL_CPUPOOL_OP_ADDCPU = 4;
        XEN_SYSCTL_CPUPOOL_OP_RMCPU = 5;
        XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN = 6;
        XEN_SYSCTL_CPUPOOL_OP_FREEINFO = 7;
        XEN_SYSCTL_CPUPOOL_PAR_ANY = 0xffff_ffff;
        XEN_SYSCTL_SCHED_RATELIMIT_MAX = 500000;
        XEN_SYSCTL_SCHED_RATELIMIT_MIN = 100;
        XEN_SYSCTL_CSCHED_TSLICE_MAX = 1000;
        XEN_SYSCTL_CSCHED_TSLICE_MIN = 1;
        XEN_SYSCTL_CSCHED_MGR_DLY_MAX_US = 0x0001_86a0;
        XEN_SYSCTL_SCHEDOP_PUTINFO = 0;
        XEN_SYSCTL_SCHEDOP_GETINFO = 1;
        ARINC653_MAX_DOMAINS_PER_SCHEDULE = 64;
    }

    abi_struct! {
        /// `XEN_SYSCTL_SCHED_ID`.
        pub struct SysctlSchedId = "struct xen_sysctl_sched_id", 4 {
            pub sched_id: u32,
        }

        /// `XEN_SYSCTL_CPUPOOL_OP`.
        pub struct SysctlCpupoolOp = "struct xen_sysctl_cpupool_op", 40 {
            pub op: u32,
            pub cpupool_id: u32,
            pub sched_id: u32,
            pub domid: u32,
            pub cpu: u32,
            pub n_dom: u32,
            pub cpumap: BitmapHandle,
        }

        /// The ARINC 653 scheduler's entry of one vcpu.
        pub struct SysctlArinc653Entry = "__typeof__(((struct xen_sysctl_arinc653_schedule *)0)->sched_entries[0])", 32 {
            pub dom_handle: [u8; 16],
            pub vcpu_id: u32,
            pub _pad: u32,
            pub runtime: u64,
        }

        /// The ARINC 653 scheduler's table.
        pub struct SysctlArinc653Schedule = "struct xen_sysctl_arinc653_schedule", 2064 {
            pub major_frame: u64,
            pub num_sched_entries: u8,
            pub _pad: [u8; 7],
            pub sched_entries: [SysctlArinc653Entry; 64],
        }

        /// The credit scheduler's global parameters.
        pub struct SysctlCreditSchedule = "struct xen_sysctl_credit_schedule", 12 {
            pub tslice_ms: u32,
            pub ratelimit_us: u32,
            pub vcpu_migr_delay_us: u32,
        }

        /// The credit2 scheduler's global parameters.
        pub struct SysctlCredit2Schedule = "struct xen_sysctl_credit2_schedule", 4 {
            pub ratelimit_us: u32,
        }

        /// The union member of `SysctlSchedulerOp` for ARINC 653.
        pub struct SysctlSchedArinc653 = "struct xen_sysctl_sched_arinc653", 8 {
            pub schedule: GuestHandle<SysctlArinc653Schedule>,
        }

        /// `XEN_SYSCTL_SCHEDULER_OP`. `u` is one of the `Sysctl...Schedule`, by `sched_id`.
        pub struct SysctlSchedulerOp = "struct xen_sysctl_scheduler_op", 32 {
            pub cpupool_id: u32,
            pub sched_id: u32,
            pub cmd: u32,
            pub _pad: u32,
            pub u: [u8; 16],
        }
    }
}
