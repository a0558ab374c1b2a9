//! Domctl arguments about vcpus and their scheduling (xen/domctl.h).

use crate::{BitmapHandle, GuestHandle, VcpuGuestContext};

abi! {
    abi_consts! { u32:
        XEN_VCPUAFFINITY_HARD = 1 << 0;
        XEN_VCPUAFFINITY_SOFT = 1 << 1;
        XEN_VCPUAFFINITY_FORCE = 1 << 2;
        XEN_SCHEDULER_CREDIT = 5;
        XEN_SCHEDULER_CREDIT2 = 6;
        XEN_SCHEDULER_ARINC653 = 7;
        XEN_SCHEDULER_RTDS = 8;
        XEN_SCHEDULER_NULL = 9;
        XEN_DOMCTL_SCHEDRT_EXTRA = 1 << 0;
        XEN_DOMCTL_SCHEDOP_PUTINFO = 0;
        XEN_DOMCTL_SCHEDOP_GETINFO = 1;
        XEN_DOMCTL_SCHEDOP_PUTVCPUINFO = 2;
        XEN_DOMCTL_SCHEDOP_GETVCPUINFO = 3;
        XEN_DOMCTL_SENDTRIGGER_NMI = 0;
        XEN_DOMCTL_SENDTRIGGER_RESET = 1;
        XEN_DOMCTL_SENDTRIGGER_INIT = 2;
        XEN_DOMCTL_SENDTRIGGER_POWER = 3;
        XEN_DOMCTL_SENDTRIGGER_SLEEP = 4;
        XEN_DOMCTL_DEBUG_OP_SINGLE_STEP_OFF = 0;
        XEN_DOMCTL_DEBUG_OP_SINGLE_STEP_ON = 1;
        XEN_DOMCTL_VMTRACE_ENABLE = 1;
        XEN_DOMCTL_VMTRACE_DISABLE = 2;
        XEN_DOMCTL_VMTRACE_RESET_AND_ENABLE = 3;
        XEN_DOMCTL_VMTRACE_OUTPUT_POSITION = 4;
        XEN_DOMCTL_VMTRACE_GET_OPTION = 5;
        XEN_DOMCTL_VMTRACE_SET_OPTION = 6;
    }

    abi_struct! {
        /// `XEN_DOMCTL_MAX_VCPUS`.
        pub struct DomctlMaxVcpus = "struct xen_domctl_max_vcpus", 4 {
            pub max: u32,
        }

        /// `XEN_DOMCTL_SETVCPUCONTEXT` and `XEN_DOMCTL_GETVCPUCONTEXT`.
        pub struct DomctlVcpuContext = "struct xen_domctl_vcpucontext", 16 {
            pub vcpu: u32,
            pub _pad: u32,
            pub ctxt: GuestHandle<VcpuGuestContext>,
        }

        /// `XEN_DOMCTL_GETVCPUINFO`.
        pub struct DomctlGetVcpuInfo = "struct xen_domctl_getvcpuinfo", 24 {
            pub vcpu: u32,
            pub online: u8,
            pub blocked: u8,
            pub running: u8,
            pub _pad0: u8,
            pub cpu_time: u64,
            pub cpu: u32,
            pub _pad1: u32,
        }

        /// `XEN_DOMCTL_SETNODEAFFINITY` and `XEN_DOMCTL_GETNODEAFFINITY`.
        pub struct DomctlNodeAffinity = "struct xen_domctl_nodeaffinity", 16 {
            pub nodemap: BitmapHandle,
        }

        /// `XEN_DOMCTL_SETVCPUAFFINITY` and `XEN_DOMCTL_GETVCPUAFFINITY`.
        pub struct DomctlVcpuAffinity = "struct xen_domctl_vcpuaffinity", 40 {
            pub vcpu: u32,
            pub flags: u32,
            pub cpumap_hard: BitmapHandle,
            pub cpumap_soft: BitmapHandle,
        }

        /// The credit scheduler's parameters of a domain or vcpu.
        pub struct DomctlSchedCredit = "struct xen_domctl_sched_credit", 4 {
            pub weight: u16,
            pub cap: u16,
        }

        /// The credit2 scheduler's parameters of a domain or vcpu.
        pub struct DomctlSchedCredit2 = "struct xen_domctl_sched_credit2", 4 {
            pub weight: u16,
            pub cap: u16,
        }

        /// The real-time scheduler's parameters of a vcpu, in microseconds.
        pub struct DomctlSchedRtds = "struct xen_domctl_sched_rtds", 12 {
            pub period: u32,
            pub budget: u32,
            pub flags: u32,
        }

        /// One vcpu's entry of `XEN_DOMCTL_SCHEDOP_PUTVCPUINFO` and `..._GETVCPUINFO`.
        pub struct DomctlSchedParamVcpu = "struct xen_domctl_schedparam_vcpu", 16 {
            pub u: [u8; 12],
            pub vcpuid: u32,
        }

        /// The union member of `DomctlSchedulerOp` that lists vcpus.
        pub struct DomctlSchedulerOpVcpus = "__typeof__(((struct xen_domctl_scheduler_op *)0)->u.v)", 16 {
            pub vcpus: GuestHandle<DomctlSchedParamVcpu>,
            pub nr_vcpus: u32,
            pub padding: u32,
        }

        /// `XEN_DOMCTL_SCHEDULER_OP`. `u` is one of the `DomctlSched...`, by `sched_id` and `cmd`.
        pub struct DomctlSchedulerOp = "struct xen_domctl_scheduler_op", 24 {
            pub sched_id: u32,
            pub cmd: u32,
            pub u: [u8; 16],
        }

        /// `XEN_DOMCTL_SENDTRIGGER`.
        pub struct DomctlSendTrigger = "struct xen_domctl_sendtrigger", 8 {
            pub trigger: u32,
            pub vcpu: u32,
        }

        /// `XEN_DOMCTL_DEBUG_OP`.
        pub struct DomctlDebugOp = "struct xen_domctl_debug_op", 8 {
            pub op: u32,
            pub vcpu: u32,
        }

        /// `XEN_DOMCTL_SETVCPUEXTSTATE` and `XEN_DOMCTL_GETVCPUEXTSTATE`.
        pub struct DomctlVcpuExtState = "struct xen_domctl_vcpuextstate", 32 {
            pub vcpu: u32,
            pub _pad: u32,
            pub xfeature_mask: u64,
            pub size: u64,
            pub buffer: GuestHandle<u64>,
        }

        /// An entry of `DomctlVcpuMsrs`.
        pub struct DomctlVcpuMsr = "struct xen_domctl_vcpu_msr", 16 {
            pub index: u32,
            pub reserved: u32,
            pub value: u64,
        }

        /// `XEN_DOMCTL_GET_VCPU_MSRS` and `XEN_DOMCTL_SET_VCPU_MSRS`.
        pub struct DomctlVcpuMsrs = "struct xen_domctl_vcpu_msrs", 16 {
            pub vcpu: u32,
            pub msr_count: u32,
            pub msrs: GuestHandle<DomctlVcpuMsr>,
        }

        /// `XEN_DOMCTL_SET_EXT_VCPUCONTEXT` and `XEN_DOMCTL_GET_EXT_VCPUCONTEXT`.
        pub struct DomctlExtVcpuContext = "struct xen_domctl_ext_vcpucontext", 64 {
            pub vcpu: u32,
            pub size: u32,
            pub syscall32_callback_eip: u64,
            pub sysenter_callback_eip: u64,
            pub syscall32_callback_cs: u16,
            pub sysenter_callback_cs: u16,
            pub syscall32_disables_events: u8,
            pub sysenter_disables_events: u8,
            pub _pad: [u8; 2],
            pub vmce: crate::HvmVmceVcpu,
        }

        /// `XEN_DOMCTL_VMTRACE_OP`.
        pub struct DomctlVmtraceOp = "struct xen_domctl_vmtrace_op", 24 {
            pub cmd: u32,
            pub vcpu: u32,
            pub key: u64,
            pub value: u64,
        }

        /// `XEN_DOMCTL_GDBSX_PAUSEVCPU` and `XEN_DOMCTL_GDBSX_UNPAUSEVCPU`.
        pub struct DomctlGdbsxPauseUnpauseVcpu = "struct xen_domctl_gdbsx_pauseunp_vcpu", 4 {
            pub vcpu: u32,
        }

        /// `XEN_DOMCTL_GDBSX_DOMSTATUS`.
        pub struct DomctlGdbsxDomStatus = "struct xen_domctl_gdbsx_domstatus", 12 {
            pub paused: u8,
            pub _pad: [u8; 3],
            pub vcpu_id: u32,
            pub vcpu_ev: u32,
        }
    }
}
