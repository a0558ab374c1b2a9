//! Processors' power states, as dom0's ACPI code found them (xen/platform.h:
//! `XENPF_SET_PROCESSOR_PMINFO`).

use crate::GuestHandle;

abi! {
    abi_consts! { u32:
        XEN_PROCESSOR_PM_CX = 1;
        XEN_PROCESSOR_PM_PX = 2;
        XEN_PROCESSOR_PM_TX = 4;
        XEN_PM_CX = 0;
        XEN_PM_PX = 1;
        XEN_PM_TX = 2;
        XEN_PM_PDC = 3;
        XEN_PX_PCT = 1;
        XEN_PX_PSS = 2;
        XEN_PX_PPC = 4;
        XEN_PX_PSD = 8;
        XEN_CPUPERF_SHARED_TYPE_HW = 1;
        XEN_CPUPERF_SHARED_TYPE_ALL = 2;
        XEN_CPUPERF_SHARED_TYPE_ANY = 3;
    }

    abi_struct! {
        /// An ACPI generic address.
        pub struct PowerRegister = "struct xen_power_register", 24 {
            pub space_id: u32,
            pub bit_width: u32,
            pub bit_offset: u32,
            pub access_size: u32,
            pub address: u64,
        }

        /// Processors that change an idle state together.
        pub struct ProcessorCsd = "struct xen_processor_csd", 12 {
            pub domain: u32,
            pub coord_type: u32,
            pub num: u32,
        }

        /// An idle state.
        pub struct ProcessorCx = "struct xen_processor_cx", 48 {
            pub reg: PowerRegister,
            pub kind as "type": u8,
            pub _pad: [u8; 3],
            pub latency: u32,
            pub power: u32,
            pub dpcnt: u32,
            pub dp: GuestHandle<ProcessorCsd>,
        }

        /// A processor's idle states.
        pub struct ProcessorPower = "struct xen_processor_power", 16 {
            pub count: u32,
            pub flags: u32,
            pub states: GuestHandle<ProcessorCx>,
        }

        /// A register of performance control.
        pub struct PctRegister = "struct xen_pct_register", 16 {
            pub descriptor: u8,
            pub _pad: u8,
            pub length: u16,
            pub space_id: u8,
            pub bit_width: u8,
            pub bit_offset: u8,
            pub reserved: u8,
            pub address: u64,
        }

        /// A performance state.
        pub struct ProcessorPx = "struct xen_processor_px", 48 {
            pub core_frequency: u64,
            pub power: u64,
            pub transition_latency: u64,
            pub bus_master_latency: u64,
            pub control: u64,
            pub status: u64,
        }

        /// Processors that change performance together.
        pub struct PsdPackage = "struct xen_psd_package", 40 {
            pub num_entries: u64,
            pub revision: u64,
            pub domain: u64,
            pub coord_type: u64,
            pub num_processors: u64,
        }

        /// A processor's performance states.
        pub struct ProcessorPerformance = "struct xen_processor_performance", 104 {
            pub flags: u32,
            pub platform_limit: u32,
            pub control_register: PctRegister,
            pub status_register: PctRegister,
            pub state_count: u32,
            pub _pad0: u32,
            pub states: GuestHandle<ProcessorPx>,
            pub domain_info: PsdPackage,
            pub shared_type: u32,
            pub _pad1: u32,
        }

        /// `XENPF_SET_PROCESSOR_PMINFO`. `u` is a `ProcessorPower`, a `ProcessorPerformance` or the
        /// handle of a `_PDC` buffer, by `kind`.
        pub struct XenpfSetProcessorPminfo = "struct xenpf_set_processor_pminfo", 112 {
            pub id: u32,
            pub kind as "type": u32,
            pub u: [u8; 104],
        }
    }
}
