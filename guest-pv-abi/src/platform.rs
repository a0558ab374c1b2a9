//! Operations of dom0 on the platform (xen/platform.h): numbers, envelope, time, CPUs. Firmware is
//! in `platform_firmware`, processor power data in `platform_power`.

use bytemuck::Pod;

use crate::{GuestHandle, UnionBytes};

abi! {
    abi_consts! { u32:
        XENPF_INTERFACE_VERSION = 0x0300_0001;
        XENPF_SETTIME32 = 17;
        XENPF_SETTIME64 = 62;
        XENPF_SETTIME = 62;
        XENPF_ADD_MEMTYPE = 31;
        XENPF_DEL_MEMTYPE = 32;
        XENPF_READ_MEMTYPE = 33;
        XENPF_MICROCODE_UPDATE = 35;
        XENPF_PLATFORM_QUIRK = 39;
        XENPF_EFI_RUNTIME_CALL = 49;
        XENPF_FIRMWARE_INFO = 50;
        XENPF_ENTER_ACPI_SLEEP = 51;
        XENPF_CHANGE_FREQ = 52;
        XENPF_GETIDLETIME = 53;
        XENPF_SET_PROCESSOR_PMINFO = 54;
        XENPF_GET_CPUINFO = 55;
        XENPF_GET_CPU_VERSION = 48;
        XENPF_CPU_ONLINE = 56;
        XENPF_CPU_OFFLINE = 57;
        XENPF_CPU_HOTADD = 58;
        XENPF_MEM_HOTADD = 59;
        XENPF_CORE_PARKING = 60;
        XENPF_RESOURCE_OP = 61;
        XENPF_GET_SYMBOL = 63;

        XENPF_ACPI_SLEEP_EXTENDED = 0x0000_0001;
        QUIRK_NOIRQBALANCING = 1;
        QUIRK_IOAPIC_BAD_REGSEL = 2;
        QUIRK_IOAPIC_GOOD_REGSEL = 3;
        XEN_PCPU_FLAGS_ONLINE = 1;
        XEN_PCPU_FLAGS_INVALID = 2;
        XEN_CORE_PARKING_SET = 1;
        XEN_CORE_PARKING_GET = 2;
        XEN_RESOURCE_OP_MSR_READ = 0;
        XEN_RESOURCE_OP_MSR_WRITE = 1;
    }

    abi_extra! { u32:
        /// dom0's screen: Linux asks for it since 6.0, Xen answers since 4.18.
        XENPF_GET_DOM0_CONSOLE = 64;
    }

    abi_struct! {
        /// The argument of the platform hypercall. `u` holds the operation's own structure.
        pub struct PlatformOp = "struct xen_platform_op", 136 {
            pub cmd: u32,
            pub interface_version: u32,
            pub u: [u8; 128],
        }

        /// `XENPF_SETTIME32`.
        pub struct XenpfSettime32 = "struct xenpf_settime32", 16 {
            pub secs: u32,
            pub nsecs: u32,
            pub system_time: u64,
        }

        /// `XENPF_SETTIME64`: the wall clock at a system time.
        pub struct XenpfSettime64 = "struct xenpf_settime64", 24 {
            pub secs: u64,
            pub nsecs: u32,
            pub mbz: u32,
            pub system_time: u64,
        }

        /// `XENPF_ADD_MEMTYPE`.
        pub struct XenpfAddMemtype = "struct xenpf_add_memtype", 32 {
            pub mfn: u64,
            pub nr_mfns: u64,
            pub kind as "type": u32,
            pub handle: u32,
            pub reg: u32,
            pub _pad: u32,
        }

        /// `XENPF_DEL_MEMTYPE`.
        pub struct XenpfDelMemtype = "struct xenpf_del_memtype", 8 {
            pub handle: u32,
            pub reg: u32,
        }

        /// `XENPF_READ_MEMTYPE`.
        pub struct XenpfReadMemtype = "struct xenpf_read_memtype", 32 {
            pub reg: u32,
            pub _pad0: u32,
            pub mfn: u64,
            pub nr_mfns: u64,
            pub kind as "type": u32,
            pub _pad1: u32,
        }

        /// `XENPF_MICROCODE_UPDATE`.
        pub struct XenpfMicrocodeUpdate = "struct xenpf_microcode_update", 16 {
            pub data: GuestHandle<u8>,
            pub length: u32,
            pub _pad: u32,
        }

        /// `XENPF_PLATFORM_QUIRK`.
        pub struct XenpfPlatformQuirk = "struct xenpf_platform_quirk", 4 {
            pub quirk_id: u32,
        }

        /// `XENPF_ENTER_ACPI_SLEEP`.
        pub struct XenpfEnterAcpiSleep = "struct xenpf_enter_acpi_sleep", 12 {
            pub val_a: u16,
            pub val_b: u16,
            pub sleep_state: u32,
            pub flags: u32,
        }

        /// `XENPF_CHANGE_FREQ`.
        pub struct XenpfChangeFreq = "struct xenpf_change_freq", 16 {
            pub flags: u32,
            pub cpu: u32,
            pub freq: u64,
        }

        /// `XENPF_GETIDLETIME`.
        pub struct XenpfGetidletime = "struct xenpf_getidletime", 32 {
            pub cpumap_bitmap: GuestHandle<u8>,
            pub cpumap_nr_cpus: u32,
            pub _pad: u32,
            pub idletime: GuestHandle<u64>,
            pub now: u64,
        }

        /// `XENPF_GET_CPUINFO`.
        pub struct XenpfPcpuinfo = "struct xenpf_pcpuinfo", 20 {
            pub xen_cpuid: u32,
            pub max_present: u32,
            pub flags: u32,
            pub apic_id: u32,
            pub acpi_id: u32,
        }

        /// `XENPF_GET_CPU_VERSION`.
        pub struct XenpfPcpuVersion = "struct xenpf_pcpu_version", 32 {
            pub xen_cpuid: u32,
            pub max_present: u32,
            pub vendor_id: [u8; 12],
            pub family: u32,
            pub model: u32,
            pub stepping: u32,
        }

        /// `XENPF_CPU_ONLINE` and `XENPF_CPU_OFFLINE`.
        pub struct XenpfCpuOl = "struct xenpf_cpu_ol", 4 {
            pub cpuid: u32,
        }

        /// `XENPF_CPU_HOTADD`.
        pub struct XenpfCpuHotadd = "struct xenpf_cpu_hotadd", 12 {
            pub apic_id: u32,
            pub acpi_id: u32,
            pub pxm: u32,
        }

        /// `XENPF_MEM_HOTADD`.
        pub struct XenpfMemHotadd = "struct xenpf_mem_hotadd", 24 {
            pub spfn: u64,
            pub epfn: u64,
            pub pxm: u32,
            pub flags: u32,
        }

        /// `XENPF_CORE_PARKING`.
        pub struct XenpfCoreParking = "struct xenpf_core_parking", 8 {
            pub kind as "type": u32,
            pub idle_nums: u32,
        }

        /// An access to a model-specific register: a command in `cmd`, on return an errno.
        pub struct XenpfResourceEntry = "struct xenpf_resource_entry", 24 {
            pub cmd as "u.cmd": u32,
            pub rsvd: u32,
            pub idx: u64,
            pub val: u64,
        }

        /// `XENPF_RESOURCE_OP`.
        pub struct XenpfResourceOp = "struct xenpf_resource_op", 16 {
            pub nr_entries: u32,
            pub cpu: u32,
            pub entries: GuestHandle<XenpfResourceEntry>,
        }

        /// `XENPF_GET_SYMBOL`.
        pub struct XenpfSymdata = "struct xenpf_symdata", 32 {
            pub namelen: u32,
            pub symnum: u32,
            pub name: GuestHandle<u8>,
            pub address: u64,
            pub kind as "type": u8,
            pub _pad: [u8; 7],
        }
    }
}

impl PlatformOp {
    /// An operation with its argument.
    pub fn with<T: Pod>(cmd: u32, argument: &T) -> Self {
        Self {
            cmd,
            interface_version: XENPF_INTERFACE_VERSION,
            u: UnionBytes::holding(argument),
        }
    }
}
