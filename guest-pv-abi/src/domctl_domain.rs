//! Domctl arguments about a domain as a whole (xen/domctl.h; xen/arch-x86/xen.h for its x86 part).

use crate::{CpuidLeaf, GuestHandle, MsrEntry, ShutdownReason};

abi! {
    abi_consts! { u32:
        XEN_DOMCTL_CDF_HVM = 1 << 0;
        XEN_DOMCTL_CDF_HAP = 1 << 1;
        XEN_DOMCTL_CDF_S3_INTEGRITY = 1 << 2;
        XEN_DOMCTL_CDF_OOS_OFF = 1 << 3;
        XEN_DOMCTL_CDF_XS_DOMAIN = 1 << 4;
        XEN_DOMCTL_CDF_IOMMU = 1 << 5;
        XEN_DOMCTL_CDF_NESTED_VIRT = 1 << 6;
        XEN_DOMCTL_CDF_VPMU = 1 << 7;
        XEN_DOMCTL_CDF_MAX = 128;
        XEN_DOMCTL_IOMMU_NO_SHAREPT = 1 << 0;
        XEN_DOMCTL_IOMMU_MAX = 1;
        XEN_DOMCTL_GRANT_VERSION_MASK = 0xf;
        XEN_DOMINF_DYING = 1 << 0;
        XEN_DOMINF_HVM_GUEST = 1 << 1;
        XEN_DOMINF_SHUTDOWN = 1 << 2;
        XEN_DOMINF_PAUSED = 1 << 3;
        XEN_DOMINF_BLOCKED = 1 << 4;
        XEN_DOMINF_RUNNING = 1 << 5;
        XEN_DOMINF_DEBUGGED = 1 << 6;
        XEN_DOMINF_XS_DOMAIN = 1 << 7;
        XEN_DOMINF_HAP = 1 << 8;
        XEN_DOMINF_SHUTDOWNMASK = 255;
        XEN_DOMINF_SHUTDOWNSHIFT = 16;
        XEN_INVALID_MAX_VCPU_ID = 0xffff_ffff;
        XEN_CPUID_INPUT_UNUSED = 0xffff_ffff;

        XEN_X86_EMU_LAPIC = 1 << 0;
        XEN_X86_EMU_HPET = 1 << 1;
        XEN_X86_EMU_PM = 1 << 2;
        XEN_X86_EMU_RTC = 1 << 3;
        XEN_X86_EMU_IOAPIC = 1 << 4;
        XEN_X86_EMU_PIC = 1 << 5;
        XEN_X86_EMU_VGA = 1 << 6;
        XEN_X86_EMU_IOMMU = 1 << 7;
        XEN_X86_EMU_PIT = 1 << 8;
        XEN_X86_EMU_USE_PIRQ = 1 << 9;
        XEN_X86_EMU_VPCI = 1 << 10;
        XEN_X86_EMU_ALL = 0x7ff;
        XEN_X86_MSR_RELAXED = 1 << 0;
        XEN_X86_MISC_FLAGS_MAX = 1;
    }

    abi_struct! {
        /// x86's part of a domain's configuration: which devices it gets emulated.
        pub struct ArchDomainConfig = "struct xen_arch_domainconfig", 8 {
            pub emulation_flags: u32,
            pub misc_flags: u32,
        }

        /// `XEN_DOMCTL_CREATEDOMAIN`.
        pub struct DomctlCreateDomain = "struct xen_domctl_createdomain", 64 {
            pub ssidref: u32,
            pub handle: [u8; 16],
            pub flags: u32,
            pub iommu_opts: u32,
            pub max_vcpus: u32,
            pub max_evtchn_port: u32,
            /// Below zero: the default.
            pub max_grant_frames: i32,
            /// Below zero: the default.
            pub max_maptrack_frames: i32,
            pub grant_opts: u32,
            pub vmtrace_size: u32,
            pub cpupool_id: u32,
            pub arch: ArchDomainConfig,
        }

        /// `XEN_DOMCTL_GETDOMAININFO`, and an entry of `XEN_SYSCTL_GETDOMAININFOLIST`.
        pub struct DomctlGetDomainInfo = "struct xen_domctl_getdomaininfo", 112 {
            pub domain: u16,
            pub pad1: u16,
            pub flags: u32,
            pub tot_pages: u64,
            pub max_pages: u64,
            pub outstanding_pages: u64,
            pub shr_pages: u64,
            pub paged_pages: u64,
            pub shared_info_frame: u64,
            pub cpu_time: u64,
            pub nr_online_vcpus: u32,
            pub max_vcpu_id: u32,
            pub ssidref: u32,
            pub handle: [u8; 16],
            pub cpupool: u32,
            pub gpaddr_bits: u8,
            pub pad2: [u8; 7],
            pub arch_config: ArchDomainConfig,
        }

        /// `XEN_DOMCTL_MAX_MEM`.
        pub struct DomctlMaxMem = "struct xen_domctl_max_mem", 8 {
            pub max_memkb: u64,
        }

        /// `XEN_DOMCTL_SETDOMAINHANDLE`.
        pub struct DomctlSetDomainHandle = "struct xen_domctl_setdomainhandle", 16 {
            pub handle: [u8; 16],
        }

        /// `XEN_DOMCTL_SETDEBUGGING`.
        pub struct DomctlSetDebugging = "struct xen_domctl_setdebugging", 1 {
            pub enable: u8,
        }

        /// `XEN_DOMCTL_HYPERCALL_INIT`.
        pub struct DomctlHypercallInit = "struct xen_domctl_hypercall_init", 8 {
            pub gmfn: u64,
        }

        /// `XEN_DOMCTL_SETTIMEOFFSET`.
        pub struct DomctlSetTimeOffset = "struct xen_domctl_settimeoffset", 8 {
            pub time_offset_seconds: i64,
        }

        /// `XEN_DOMCTL_GETTSCINFO` and `XEN_DOMCTL_SETTSCINFO`.
        pub struct DomctlTscInfo = "struct xen_domctl_tsc_info", 24 {
            pub tsc_mode: u32,
            pub gtsc_khz: u32,
            pub incarnation: u32,
            pub pad: u32,
            pub elapsed_nsec: u64,
        }

        /// `XEN_DOMCTL_GETHVMCONTEXT` and `XEN_DOMCTL_SETHVMCONTEXT`.
        pub struct DomctlHvmContext = "struct xen_domctl_hvmcontext", 16 {
            pub size: u32,
            pub _pad: u32,
            pub buffer: GuestHandle<u8>,
        }

        /// `XEN_DOMCTL_GETHVMCONTEXT_PARTIAL`.
        pub struct DomctlHvmContextPartial = "struct xen_domctl_hvmcontext_partial", 24 {
            pub kind as "type": u32,
            pub instance: u32,
            pub bufsz: u64,
            pub buffer: GuestHandle<u8>,
        }

        /// `XEN_DOMCTL_SET_ADDRESS_SIZE` and `XEN_DOMCTL_GET_ADDRESS_SIZE`.
        pub struct DomctlAddressSize = "struct xen_domctl_address_size", 4 {
            pub size: u32,
        }

        /// `XEN_DOMCTL_GET_CPU_POLICY` and `XEN_DOMCTL_SET_CPU_POLICY`.
        pub struct DomctlCpuPolicy = "struct xen_domctl_cpu_policy", 40 {
            pub nr_leaves: u32,
            pub nr_msrs: u32,
            pub leaves: GuestHandle<CpuidLeaf>,
            pub msrs: GuestHandle<MsrEntry>,
            pub err_leaf: u32,
            pub err_subleaf: u32,
            pub err_msr: u32,
            pub _pad: u32,
        }

        /// `XEN_DOMCTL_SUBSCRIBE`.
        pub struct DomctlSubscribe = "struct xen_domctl_subscribe", 4 {
            pub port: u32,
        }

        /// `XEN_DOMCTL_SET_TARGET`.
        pub struct DomctlSetTarget = "struct xen_domctl_set_target", 2 {
            pub target: u16,
        }

        /// `XEN_DOMCTL_SET_VIRQ_HANDLER`.
        pub struct DomctlSetVirqHandler = "struct xen_domctl_set_virq_handler", 4 {
            pub virq: u32,
        }
    }
}

impl DomctlCreateDomain {
    /// A PVH guest with the usual limits.
    pub const fn pvh(handle: [u8; 16], max_vcpus: u32) -> Self {
        Self {
            ssidref: 0,
            handle,
            flags: XEN_DOMCTL_CDF_HVM | XEN_DOMCTL_CDF_HAP,
            iommu_opts: 0,
            max_vcpus,
            max_evtchn_port: 1023,
            max_grant_frames: -1,
            max_maptrack_frames: -1,
            grant_opts: 1,
            vmtrace_size: 0,
            cpupool_id: 0,
            arch: ArchDomainConfig {
                emulation_flags: XEN_X86_EMU_LAPIC,
                misc_flags: 0,
            },
        }
    }
}

impl DomctlGetDomainInfo {
    const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    pub const fn dying(&self) -> bool {
        self.has(XEN_DOMINF_DYING)
    }

    pub const fn hvm(&self) -> bool {
        self.has(XEN_DOMINF_HVM_GUEST)
    }

    pub const fn paused(&self) -> bool {
        self.has(XEN_DOMINF_PAUSED)
    }

    pub const fn blocked(&self) -> bool {
        self.has(XEN_DOMINF_BLOCKED)
    }

    pub const fn running(&self) -> bool {
        self.has(XEN_DOMINF_RUNNING)
    }

    /// The reason, once it has shut down.
    pub const fn shutdown(&self) -> Option<ShutdownReason> {
        if self.has(XEN_DOMINF_SHUTDOWN) {
            let code = self.flags >> XEN_DOMINF_SHUTDOWNSHIFT & XEN_DOMINF_SHUTDOWNMASK;
            Some(ShutdownReason::from_code(code as u8))
        } else {
            None
        }
    }
}
